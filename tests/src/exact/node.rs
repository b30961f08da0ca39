//! A shell on the kind node, which has access to every process and every packet of the cluster.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::Mutex,
};

const NODE: &str = "userpipeline-control-plane";
/// Printed after the output of a command, with its exit code.
const END: &str = "--end--";

struct Shell {
    _child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

/// It stays open, so that a kill does not wait for `docker exec`.
pub struct Node(Mutex<Shell>);

impl Node {
    pub fn enter() -> Result<Self> {
        let mut child = Command::new("docker")
            .args(["exec", "-i", NODE, "sh"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("docker, on which the local cluster runs")?;
        let (stdin, stdout) = child.stdin.take().zip(child.stdout.take()).context("pipes")?;
        Ok(Self(Mutex::new(Shell {
            _child: child,
            stdin,
            lines: BufReader::new(stdout).lines(),
        })))
    }

    /// Runs a script and returns its output. Fails if its last command fails.
    pub async fn run(&self, script: &str) -> Result<String> {
        let mut shell = self.0.lock().await;
        shell
            .stdin
            .write_all(format!("{{ {script}\n}} 2>&1 </dev/null; code=$?; echo; echo {END} $code\n").as_bytes())
            .await?;
        let mut printed = Vec::new();
        loop {
            let line = shell.lines.next_line().await?.context("the shell on the node ended")?;
            if let Some(code) = line.strip_prefix(END) {
                let printed = printed.join("\n").trim().to_owned();
                ensure!(code.trim() == "0", "on the node, `{script}` ended with{code}: {printed}");
                return Ok(printed);
            }
            printed.push(line);
        }
    }

    pub async fn processes(&self, pod_uid: &str, name: &str) -> Result<Vec<u32>> {
        // Depending on its driver, the kubelet writes uids with dashes or with underscores.
        let uid = pod_uid.replace('-', ".");
        let found = self
            .run(&format!(
                "for p in $(pgrep {name}); do grep -qs '{uid}' /proc/$p/cgroup && echo $p; done; true"
            ))
            .await?;
        Ok(found.split_whitespace().filter_map(|pid| pid.parse().ok()).collect())
    }

    /// Returns whether the process existed.
    pub async fn signal(&self, pid: u32, signal: &str) -> Result<bool> {
        Ok(self
            .run(&format!("kill -{signal} {pid} && echo sent || true"))
            .await?
            .ends_with("sent"))
    }
}

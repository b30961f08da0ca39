//! Programs that reach the services of the local cluster as its pods do: with the network and the DNS of the kind node.

use std::{fs, net::Ipv4Addr, path::Path, process::Stdio};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tokio::process::Command;

const NODE: &str = "userpipeline-control-plane";
/// The address of the cluster's DNS.
const DNS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
/// Its arguments: the file to mount, the program, and the program's arguments.
const WITH_DNS: &str = r#"mount --bind "$0" /etc/resolv.conf && exec "$@""#;

/// It needs root, as the engine that runs the node does.
pub struct NodeNetwork {
    process: String,
    folder: TempDir,
}

impl NodeNetwork {
    pub async fn enter() -> Result<Self> {
        let asked = Command::new("docker")
            .args(["inspect", "--format", "{{.State.Pid}}", NODE])
            .output()
            .await
            .context("docker, on which the local cluster runs")?;
        let process = String::from_utf8(asked.stdout)?.trim().to_owned();
        ensure!(asked.status.success() && process != "0", "the container {NODE} does not run");
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("resolv.conf"), format!("nameserver {DNS}\n"))?;
        Ok(Self { process, folder })
    }

    /// A command that runs the program. Its process is the program's own, and ends with the value.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.process, "--net", "unshare", "--mount", "sh", "-c", WITH_DNS])
            .arg(self.folder.path().join("resolv.conf"))
            .arg(program)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }
}

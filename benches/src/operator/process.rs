//! The operator as a child process.

use std::{
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use userpipeline_benches::process::cpu_seconds;

use super::proxy::Proxy;

const PATIENCE: Duration = Duration::from_secs(300);
/// The operator is idle after this time without a write.
const QUIET: Duration = Duration::from_secs(5);

pub struct Operator {
    child: Child,
    metrics: String,
    _folder: TempDir,
}

impl Operator {
    /// Starts the program with `proxy` as its API server, and waits until it is the leader.
    pub async fn start(program: &Path, proxy: &Proxy, namespace: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let kubeconfig = folder.path().join("kubeconfig");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "bench",
            "clusters": [{"name": "bench", "cluster": {"server": format!("http://{}", proxy.address)}}],
            "users": [{"name": "bench", "user": {}}],
            "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench", "namespace": namespace}}]
        });
        std::fs::write(&kubeconfig, config.to_string())?;
        let listen = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let child = Command::new(program)
            .args([
                "run",
                "--lease-namespace",
                namespace,
                "--identity",
                "bench",
                "--watch-namespace",
                namespace,
            ])
            .args(["--listen", &listen.to_string()])
            .env("KUBECONFIG", &kubeconfig)
            .env("RUST_LOG", "warn")
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let operator = Self {
            child,
            metrics: format!("http://{listen}/metrics"),
            _folder: folder,
        };
        operator
            .eventually("it leads", |text| {
                text.contains(r#"leader_election_master_status{name="userpipeline-operator"} 1"#)
            })
            .await?;
        // The caches are also filled without pipelines. The pause covers allocations that happen once.
        tokio::time::sleep(QUIET).await;
        Ok(operator)
    }

    /// The resident set in bytes.
    pub fn memory(&self) -> Result<u64> {
        let id = self.child.id().context("the operator has ended")?;
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
        let kibibytes: u64 = line.trim().trim_end_matches(" kB").trim().parse()?;
        Ok(kibibytes * 1024)
    }

    /// The CPU time of all its threads since it started.
    pub fn cpu_time(&self) -> Result<Duration> {
        let id = self.child.id().context("the operator has ended")?;
        let seconds = cpu_seconds(id).context("the operator has ended")?;
        Ok(Duration::from_secs_f64(seconds))
    }

    async fn text(&self) -> Result<String> {
        Ok(reqwest::get(&self.metrics).await?.text().await?)
    }

    async fn eventually(&self, what: &str, expected: impl Fn(&str) -> bool) -> Result<()> {
        let started = Instant::now();
        while !self.text().await.is_ok_and(|text| expected(&text)) {
            ensure!(started.elapsed() < PATIENCE, "waited {PATIENCE:?} until {what}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    pub async fn reconciles(&self) -> Result<u64> {
        Ok(reconciles(&self.text().await?))
    }

    /// An upper bound of the 99th percentile of the time that a reconcile took, in seconds.
    pub async fn reconcile_p99(&self) -> Result<f64> {
        p99(&self.text().await?).context("no reconcile was measured")
    }

    /// Waits for this many reconciliations.
    pub async fn reconciled(&self, count: usize) -> Result<()> {
        self.eventually("all were looked at", |text| reconciles(text) >= count as u64).await
    }

    /// Waits until the operator is idle.
    pub async fn quiet(&self, proxy: &Proxy) -> Result<()> {
        let started = Instant::now();
        tokio::time::sleep(QUIET).await;
        while proxy.last_write().elapsed() < QUIET {
            if started.elapsed() > PATIENCE {
                bail!("it does not stop writing: {:?}", proxy.writes());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    pub async fn stop(mut self) -> Result<()> {
        self.child.kill().await?;
        Ok(())
    }
}

fn reconciles(metrics: &str) -> u64 {
    let lines = metrics
        .lines()
        .filter(|line| line.starts_with("controller_runtime_reconcile_total"));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

/// The end of the bucket that has the 99th percentile.
fn p99(metrics: &str) -> Option<f64> {
    let lines = metrics.lines();
    let buckets = lines.filter_map(|line| line.strip_prefix("controller_runtime_reconcile_time_seconds_bucket{"));
    let buckets: Vec<(f64, u64)> = buckets
        .filter_map(|line| {
            let (_, bound) = line.split_once("le=\"")?;
            let (bound, count) = bound.split_once('"')?;
            let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().ok()? };
            Some((bound, count.rsplit(' ').next()?.parse().ok()?))
        })
        .collect();
    let total = buckets.iter().map(|(_, count)| *count).max().filter(|total| *total > 0)?;
    buckets.iter().find(|(_, count)| count * 100 >= total * 99).map(|(bound, _)| *bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_99th_percentile_is_at_most_the_end_of_its_bucket() {
        let metrics = |counts: [u64; 3]| {
            let line = |(bound, count)| {
                format!("controller_runtime_reconcile_time_seconds_bucket{{le=\"{bound}\",controller=\"userpipeline\"}} {count}")
            };
            let lines: Vec<String> = ["0.5", "1.0", "+Inf"].iter().zip(counts).map(line).collect();
            lines.join("\n")
        };
        for (counts, expected) in [
            ([99, 100, 100], Some(0.5)),
            ([98, 99, 100], Some(1.0)),
            ([98, 98, 100], Some(f64::INFINITY)),
            ([0, 0, 0], None),
        ] {
            assert_eq!(p99(&metrics(counts)), expected, "{counts:?}");
        }
    }
}

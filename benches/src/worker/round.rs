//! Workers on a backlog.

use std::{
    fmt,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use tokio::{
    process::{Child, Command},
    time::sleep,
};
use userpipeline_benches::process::{cpu_seconds, peak_mebibytes};

use super::subject::{Setting, Subject};

const BACKLOG: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(10);
const STOP: Duration = Duration::from_secs(60);

pub struct Round {
    /// From the first stored batch on.
    pub rows_per_second: f64,
    /// CPU time of the workers, in microseconds.
    pub cpu_per_row: f64,
    /// Of the worker that took most, in MiB.
    pub peak: f64,
    /// From the start of the process to the first stored row.
    pub first_row: Duration,
    /// Of observations of PostgreSQL, those in which a worker waited for a lock.
    pub lock_waits: usize,
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.0} rows/s, {:.1} µs of CPU a row, {:.1} MiB, first row after {:.2} s",
            self.rows_per_second,
            self.cpu_per_row,
            self.peak,
            self.first_row.as_secs_f64()
        )?;
        if self.lock_waits > 0 {
            write!(f, ", {} waits for locks", self.lock_waits)?;
        }
        Ok(())
    }
}

/// A worker as a child process in the network of the node.
pub struct Worker(Child);

impl Worker {
    pub fn start(subject: &Subject, setting: &Setting<'_>, number: usize) -> Result<Self> {
        let folder = subject.mounted.folder();
        let mut command: Command = subject.network.command(setting.program);
        let child = command
            .arg("run")
            .arg("--pipeline")
            .arg(subject.file(setting)?)
            .arg("--secrets")
            .arg(folder.join("secrets"))
            .arg("--config-maps")
            .arg(folder.join("config-maps"))
            .args(["--listen", "127.0.0.1:0", "--instance", &format!("bench-{number}")])
            .env("RUST_LOG", "warn")
            .stdout(Stdio::inherit())
            .spawn()
            .with_context(|| format!("starting {}", setting.program.display()))?;
        Ok(Self(child))
    }

    pub fn cpu_seconds(&self) -> Option<f64> {
        cpu_seconds(self.0.id()?)
    }

    pub fn peak(&self) -> Option<f64> {
        peak_mebibytes(self.0.id()?)
    }

    /// As Kubernetes stops it.
    pub async fn stop(mut self) -> Result<()> {
        let id = self.0.id().context("the worker has ended")?;
        Command::new("kill").arg(id.to_string()).status().await?;
        tokio::time::timeout(STOP, self.0.wait())
            .await
            .context("the worker does not stop")??;
        Ok(())
    }
}

/// Lets workers store the first `rows` messages of the topic.
#[allow(clippy::cast_precision_loss)] // counts
pub async fn measure(subject: &Subject, setting: &Setting<'_>, rows: u64) -> Result<Round> {
    subject.reset().await?;
    let stored = subject
        .db
        .prepare("SELECT coalesce(sum(stored), 0)::bigint FROM userpipeline.progress WHERE group_id = $1")
        .await?;
    let waiting = subject
        .db
        .prepare("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name LIKE 'stream-worker%'")
        .await?;
    let group = subject.group();
    let started = Instant::now();
    let workers = (0..setting.workers).map(|number| Worker::start(subject, setting, number));
    let workers: Vec<Worker> = workers.collect::<Result<_>>()?;
    let (mut first, mut lock_waits) = (None, 0);
    let (elapsed, before) = loop {
        let stored: i64 = subject.db.query_one(&stored, &[&group]).await?.get(0);
        let stored = u64::try_from(stored)?;
        if stored > 0 {
            let (at, before) = *first.get_or_insert((Instant::now(), stored));
            if stored >= rows {
                break (at.elapsed(), before);
            }
        }
        if setting.workers > 1 {
            let waits: i64 = subject.db.query_one(&waiting, &[]).await?.get(0);
            lock_waits += usize::from(waits > 0);
        }
        ensure!(started.elapsed() < BACKLOG, "{stored} of {rows} rows are stored after {BACKLOG:?}");
        sleep(POLL).await;
    };
    let cpu: Option<f64> = workers.iter().map(Worker::cpu_seconds).sum();
    let peak = workers.iter().filter_map(Worker::peak).fold(0.0, f64::max);
    for worker in workers {
        worker.stop().await?;
    }
    let first_row = first.map_or(Duration::ZERO, |(at, _)| at.duration_since(started));
    Ok(Round {
        rows_per_second: (rows - before) as f64 / elapsed.as_secs_f64(),
        cpu_per_row: cpu.context("a worker has ended")? / rows as f64 * 1e6,
        peak,
        first_row,
        lock_waits,
    })
}

/// Starts a worker, and waits until it is at the end of the topic.
pub async fn drained(subject: &Subject, setting: &Setting<'_>) -> Result<Worker> {
    subject.reset().await?;
    let worker = Worker::start(subject, setting, 0)?;
    let left = "SELECT coalesce(max(updated_at) < now() - interval '2 seconds' AND sum(stored) > 0, false) FROM userpipeline.progress WHERE group_id = $1";
    let started = Instant::now();
    let group = subject.group();
    while !subject.db.query_one(left, &[&group]).await?.get::<_, bool>(0) {
        ensure!(started.elapsed() < BACKLOG, "the backlog is not stored after {BACKLOG:?}");
        sleep(Duration::from_millis(200)).await;
    }
    Ok(worker)
}

//! A run as a child process, and what it uses.

use std::{
    fs,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use tokio::{process::Command, time::sleep};
use userpipeline_benches::process::{cpu_seconds, cpu_seconds_in, peak_mebibytes};

/// What happens in the last one before the end is not counted.
const POLL: Duration = Duration::from_millis(5);

pub struct Measured {
    pub elapsed: Duration,
    /// In seconds.
    pub cpu: f64,
    /// That of Kafka's client, which publishes.
    pub kafka: f64,
    /// Of the resident set, in MiB.
    pub peak: f64,
}

#[allow(clippy::cast_precision_loss)] // counts
impl Measured {
    /// To fetch, map and land a record, in microseconds. It includes a part of publishing: what happens outside of Kafka's client.
    pub fn cpu_per(&self, records: usize) -> f64 {
        (self.cpu - self.kafka) / records as f64 * 1e6
    }

    pub fn per_second(&self, records: usize) -> f64 {
        records as f64 / self.elapsed.as_secs_f64()
    }

    pub fn per(&self, records: usize) -> String {
        format!(
            "{:.0} records/s, {:.1} µs of CPU a record, {:.1} more in Kafka's client, {:.1} MiB",
            self.per_second(records),
            self.cpu_per(records),
            self.kafka / records as f64 * 1e6,
            self.peak
        )
    }
}

/// Runs `ingest-job` with a pipeline, and the Secrets and ConfigMaps of a folder.
pub async fn run(program: &Path, pipeline: &Path, folder: &Path) -> Result<Measured> {
    let started = Instant::now();
    let mut child = Command::new(program)
        .arg("--pipeline")
        .arg(pipeline)
        .arg("--secrets")
        .arg(folder.join("secrets"))
        .arg("--config-maps")
        .arg(folder.join("config-maps"))
        .arg("--termination-log")
        .arg(folder.join("report.json"))
        .env("RUST_LOG", "warn")
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("starting {}", program.display()))?;
    let id = child.id().context("the run has a process")?;
    let (mut cpu, mut kafka, mut peak) = (0.0, 0.0, 0.0);
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        // Neither is readable once the process has ended.
        cpu = cpu_seconds(id).unwrap_or(cpu);
        // Its threads end before the process does.
        kafka = kafka_seconds(id).unwrap_or(kafka).max(kafka);
        peak = peak_mebibytes(id).unwrap_or(peak);
        sleep(POLL).await;
    };
    let report = fs::read_to_string(folder.join("report.json")).unwrap_or_default();
    ensure!(status.success(), "{status}: {report}");
    Ok(Measured {
        elapsed: started.elapsed(),
        cpu,
        kafka,
        peak,
    })
}

/// Of the threads of librdkafka and of its producer.
fn kafka_seconds(id: u32) -> Option<f64> {
    let mut seconds = None;
    for thread in fs::read_dir(format!("/proc/{id}/task")).ok()?.flatten() {
        let name = fs::read_to_string(thread.path().join("comm")).unwrap_or_default();
        if name.starts_with("rdk:") || name.starts_with("producer") {
            seconds = Some(seconds.unwrap_or(0.0) + cpu_seconds_in(&thread.path())?);
        }
    }
    seconds
}

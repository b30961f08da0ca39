//! The peer: Spark with the same topic and the same tables, except that it appends to PostgreSQL.

use std::{fs, process::Stdio};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout},
};
use userpipeline_benches::peers;
use userpipeline_tests::{
    cluster::{SERVICES, credentials},
    services::{PLAIN_CREDENTIALS, host_name},
};

use super::subject::{Sinks, Subject};

/// Spark's virtual machine compiles during the first batches.
const COLD_BATCHES: usize = 5;
/// A multiple of the number of partitions, whose shares are equal.
const OFFSETS_PER_TRIGGER: u64 = 49_998;
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/spark.py");

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    Backlog { records: u64 },
    Live,
}

/// What is printed after each of its batches.
#[derive(Deserialize)]
struct Stored {
    records: u64,
    /// Seconds since 1970.
    at: f64,
    /// CPU time so far, in seconds.
    cpu: f64,
}

/// Of warm batches.
pub struct Measured {
    pub rows_per_second: f64,
    /// CPU time, in microseconds.
    pub cpu_per_row: f64,
}

pub struct Spark {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Spark {
    /// Starts it, and waits until it reads the topic.
    pub async fn start(subject: &Subject, sinks: Sinks, mode: Mode) -> Result<Self> {
        let client = &subject.world.client;
        let (username, password) = credentials(client, SERVICES, "cassandra-userpipeline").await?;
        let (user, plain_password) = credentials(client, SERVICES, PLAIN_CREDENTIALS.1).await?;
        let postgres = json!({
            "url": format!("jdbc:postgresql://{}:5432/userpipeline?sslmode=disable", host_name("postgres")),
            "user": user, "password": plain_password, "table": format!("\"{}\"", subject.append_table()),
        });
        let config = json!({
            "bootstrapServers": format!("{}:9092", host_name("kafka")), "topic": subject.topic(),
            "offsetsPerTrigger": OFFSETS_PER_TRIGGER,
            "mode": if mode == Mode::Live { "Live" } else { "Backlog" },
            "records": match mode { Mode::Live => 0, // Whole batches: a short one at the end would take nearly as long.
            Mode::Backlog { records } => records / OFFSETS_PER_TRIGGER * OFFSETS_PER_TRIGGER },
            "cassandra": {
                "host": host_name("cassandra"), "port": 9142, "username": username, "password": password,
                "keyspace": subject.keyspace(), "table": subject.cassandra_table(),
            },
            "postgres": if sinks == Sinks::Both { postgres } else { json!(null) },
        });
        let file = subject.mounted.folder().join("spark.json");
        fs::write(&file, config.to_string())?;
        let mut command = subject.network.command(&peers::python()?);
        command.arg(SCRIPT).arg(&file).stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(fs::File::create(subject.mounted.folder().join("spark.log"))?);
        let mut child = command.spawn().context("Spark: benches/peers/install.sh installs it")?;
        let lines = BufReader::new(child.stdout.take().context("a pipe")?).lines();
        let mut spark = Self { child, lines };
        spark.line(subject).await?;
        Ok(spark)
    }

    async fn line(&mut self, subject: &Subject) -> Result<Option<String>> {
        let line = self.lines.next_line().await?;
        if line.is_none() {
            let status = self.child.wait().await?;
            let log = fs::read_to_string(subject.mounted.folder().join("spark.log")).unwrap_or_default();
            ensure!(status.success(), "Spark ended with {status}: {log}");
        }
        Ok(line)
    }

    /// Waits for the end of a backlog.
    #[allow(clippy::cast_precision_loss)] // counts
    pub async fn measure(mut self, subject: &Subject) -> Result<Measured> {
        let mut stored: Vec<Stored> = Vec::new();
        while let Some(line) = self.line(subject).await? {
            stored.push(serde_json::from_str(&line)?);
        }
        ensure!(stored.len() > COLD_BATCHES + 1, "Spark had only {} batches", stored.len());
        let warm = &stored[COLD_BATCHES - 1..];
        let (first, last) = (&warm[0], &warm[warm.len() - 1]);
        let rows = warm[1..].iter().map(|batch| batch.records).sum::<u64>() as f64;
        Ok(Measured {
            rows_per_second: rows / (last.at - first.at),
            cpu_per_row: (last.cpu - first.cpu) / rows * 1e6,
        })
    }

    /// Ends a live stream.
    pub async fn stop(mut self, subject: &Subject) -> Result<()> {
        drop(self.child.stdin.take());
        while self.line(subject).await?.is_some() {}
        Ok(())
    }
}

//! Backlogs that workers, the driver and Spark store, in turns.

use std::{path::PathBuf, process::Stdio};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum as _;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use userpipeline_tests::{
    cluster::{SERVICES, credentials},
    services::host_name,
};

use super::{
    avro,
    kind::Kind,
    messages::{self, GROUPS, Reading},
    round::{Round, measure},
    spark::{self, Mode, Spark},
    subject::{PARTITIONS, Setting, Sinks, Subject},
    targets::Measured,
};

pub struct Backlog {
    rows: u64,
    kinds: Vec<Kind>,
    pub json: Subject,
    aggregate: Option<Subject>,
    one_group: Option<Subject>,
    pub mirrored: Option<Subject>,
    avro: Option<Subject>,
    external_avro: Option<Subject>,
}

/// Produces so many readings in JSON.
async fn produce(subject: &Subject, rows: u64) -> Result<()> {
    let message = |number| {
        let reading = Reading::new(number);
        (reading.id.to_string(), reading.json().into_bytes(), None)
    };
    subject.produce(0..rows, message).await
}

/// With an aggregate in PostgreSQL, and in Cassandra if that is one of its sinks.
async fn aggregated(name: &str, partitions: i32, group_by: &[&str], sinks: &Value, rows: u64) -> Result<Subject> {
    let source = json!({"topic": {"format": "JSON"}});
    let totals = messages::totals(group_by, sinks);
    let subject = Box::pin(Subject::with_aggregates(name, &source, partitions, &totals)).await?;
    produce(&subject, rows).await?;
    Ok(subject)
}

impl Backlog {
    pub async fn create(rows: u64, only: &[Kind]) -> Result<Self> {
        let kinds = if only.is_empty() { Kind::value_variants() } else { only };
        let source = json!({"topic": {"format": "JSON"}});
        let json = Subject::create("json", &source).await?;
        produce(&json, rows).await?;
        let (mut aggregate, mut one_group, mut mirrored) = (None, None, None);
        let postgres = json!({"postgres": {}});
        if kinds.contains(&Kind::Aggregate) || kinds.contains(&Kind::AggregateFourWorkers) {
            aggregate = Some(aggregated("totals", PARTITIONS, &GROUPS, &postgres, rows).await?);
        }
        if kinds.contains(&Kind::AggregateOneGroup) {
            one_group = Some(aggregated("one-group", 8, &[], &postgres, rows).await?);
        }
        if kinds.contains(&Kind::AggregateMirrored) {
            let both = json!({"postgres": {}, "cassandra": {}});
            mirrored = Some(aggregated("mirrored", PARTITIONS, &GROUPS, &both, rows).await?);
        }
        let (mut avro, mut external_avro) = (None, None);
        if kinds.contains(&Kind::Avro) {
            avro = Some(Box::pin(avro::create(rows, false)).await?);
        }
        if kinds.contains(&Kind::ExternalAvro) {
            external_avro = Some(Box::pin(avro::create(rows, true)).await?);
        }
        Ok(Self {
            rows,
            kinds: kinds.to_vec(),
            json,
            aggregate,
            one_group,
            mirrored,
            avro,
            external_avro,
        })
    }

    pub async fn remove(self) -> Result<()> {
        let others = [self.aggregate, self.one_group, self.mirrored, self.avro, self.external_avro];
        for subject in others.into_iter().flatten().chain([self.json]) {
            subject.remove().await?;
        }
        Ok(())
    }

    /// Measures each kind once.
    pub async fn round(&self, programs: &[PathBuf], measured: &mut Measured) -> Result<()> {
        for kind in &self.kinds {
            match kind {
                Kind::Driver | Kind::DriverBatched => {
                    let driven = self.drive(if *kind == Kind::Driver { 1 } else { 10 }).await?;
                    println!(
                        "{kind:?}: {:.0} rows/s, {:.1} µs of CPU a row",
                        driven.rows_per_second, driven.cpu_per_row
                    );
                    measured.peers.entry(*kind).or_default().push(driven);
                }
                Kind::SparkCassandra | Kind::SparkBoth => {
                    let sinks = if *kind == Kind::SparkBoth { Sinks::Both } else { Sinks::Cassandra };
                    self.json.reset().await?;
                    let spark = Spark::start(&self.json, sinks, Mode::Backlog { records: self.rows }).await?;
                    let found = spark.measure(&self.json).await?;
                    println!(
                        "{kind:?}: {:.0} rows/s, {:.1} µs of CPU a row",
                        found.rows_per_second, found.cpu_per_row
                    );
                    measured.peers.entry(*kind).or_default().push(found);
                }
                _ => {
                    for program in programs {
                        let round = self.work(*kind, program).await?;
                        println!("{kind:?} {}: {round}", program.display());
                        if *program == programs[0] {
                            measured.worker.entry(*kind).or_default().push(round);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    async fn work(&self, kind: Kind, program: &std::path::Path) -> Result<Round> {
        let subject = match kind {
            Kind::Aggregate | Kind::AggregateFourWorkers => self.aggregate.as_ref(),
            Kind::AggregateOneGroup => self.one_group.as_ref(),
            Kind::AggregateMirrored => self.mirrored.as_ref(),
            Kind::Avro => self.avro.as_ref(),
            Kind::ExternalAvro => self.external_avro.as_ref(),
            _ => Some(&self.json),
        };
        let sinks = match kind {
            Kind::Cassandra | Kind::Avro | Kind::ExternalAvro => Sinks::Cassandra,
            _ => Sinks::Both,
        };
        let setting = Setting {
            program,
            sinks,
            encrypted: kind == Kind::Encrypted,
            filtered: kind == Kind::Filter,
            workers: match kind {
                Kind::FourWorkers | Kind::AggregateFourWorkers => 4,
                Kind::AggregateOneGroup => 8,
                _ => 1,
            },
            batch: None,
        };
        measure(subject.context("its topic")?, &setting, self.rows).await
    }

    /// With Cassandra's driver alone.
    async fn drive(&self, batch: usize) -> Result<spark::Measured> {
        let subject = &self.json;
        subject.reset().await?;
        let (username, password) = credentials(&subject.world.client, SERVICES, "cassandra-userpipeline").await?;
        let target = json!({
            "node": format!("{}:9142", host_name("cassandra")), "username": username, "password": password,
            "table": format!("\"{}\".\"{}\"", subject.keyspace(), subject.cassandra_table()),
        });
        let mut command = subject.network.command(&std::env::current_exe()?);
        command.args(["driver", "--rows", &self.rows.to_string(), "--batch", &batch.to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        child
            .stdin
            .take()
            .context("a pipe")?
            .write_all(target.to_string().as_bytes())
            .await?;
        let output = child.wait_with_output().await?;
        ensure!(output.status.success(), "the driver ended with {}", output.status);
        let text = String::from_utf8(output.stdout)?;
        let (rows, cpu) = text.trim().split_once(' ').context("two numbers")?;
        Ok(spark::Measured {
            rows_per_second: rows.parse()?,
            cpu_per_row: cpu.parse()?,
        })
    }
}

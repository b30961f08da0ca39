//! The pipeline that is measured: its topic and its tables, without workers of its own.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;
use serde_json::{Value, json};
use tokio_postgres::Client;
use userpipeline_api::names;
use userpipeline_benches::node_network::NodeNetwork;
use userpipeline_tests::{
    World,
    services::{Mounted, PLAIN_CREDENTIALS, in_plain_text},
    stores,
    world::SOON,
};

use super::messages;

pub const PARTITIONS: i32 = 6;
/// Messages that are produced at once.
const CHUNK: u64 = 20_000;

/// What workers have of the pipeline.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Sinks {
    Cassandra,
    Both,
}

/// How workers are run.
#[derive(Clone, Copy)]
pub struct Setting<'a> {
    pub program: &'a Path,
    pub sinks: Sinks,
    pub encrypted: bool,
    /// With a filter that all records pass.
    pub filtered: bool,
    pub workers: usize,
    /// Most records of a batch, if not the default.
    pub batch: Option<u32>,
}

pub struct Subject {
    pub world: World,
    pub network: NodeNetwork,
    pub mounted: Mounted,
    pub db: Client,
    pipeline: Value,
}

impl Subject {
    /// Creates the pipeline, and waits for its topic and tables. `source`: what its topic has.
    pub async fn create(name: &str, source: &Value) -> Result<Self> {
        Self::with_partitions(name, source, PARTITIONS).await
    }

    pub async fn with_partitions(name: &str, source: &Value, partitions: i32) -> Result<Self> {
        Self::with_aggregates(name, source, partitions, &json!([])).await
    }

    pub async fn with_aggregates(name: &str, source: &Value, partitions: i32, aggregates: &Value) -> Result<Self> {
        let world = World::new(&format!("bench-{name}")).await?;
        world.copy_credentials(PLAIN_CREDENTIALS).await?;
        let mut pipeline = world.pipeline();
        let spec = &mut pipeline["spec"];
        spec["source"] = source.clone();
        spec["record"] = messages::record();
        spec["aggregates"] = aggregates.clone();
        spec["kafka"]["topic"]["partitions"] = json!(partitions);
        spec["workers"] = json!({"replicas": 0});
        if source["topic"].is_object() {
            spec.as_object_mut().map(|spec| spec.remove("schedule"));
        }
        if source["topic"]["format"] == "JSON" {
            spec.as_object_mut().map(|spec| spec.remove("schemaRegistry"));
        }
        world.apply(&pipeline).await?;
        world.condition("SchemaReady", "True", SOON).await?;
        let mounted = Mounted::new(&world.client, &[PLAIN_CREDENTIALS.1]).await?;
        let subject = Self {
            network: NodeNetwork::enter().await?,
            db: stores::postgres(&world.client).await?,
            mounted,
            world,
            pipeline,
        };
        let columns = messages::COLUMNS;
        let statement = format!("CREATE TABLE \"{}\" ({columns})", subject.append_table());
        subject.db.batch_execute(&statement).await?;
        Ok(subject)
    }

    pub async fn remove(self) -> Result<()> {
        self.db.batch_execute(&format!("DROP TABLE \"{}\"", self.append_table())).await?;
        self.world.clean_up().await
    }

    pub fn topic(&self) -> String {
        names::topic(&self.world.id())
    }

    pub fn group(&self) -> String {
        names::group_id(&self.world.id())
    }

    pub fn keyspace(&self) -> String {
        names::keyspace(&self.world.id())
    }

    pub fn postgres_table(&self) -> String {
        names::postgres_table(&self.world.id())
    }

    /// Like [`Self::postgres_table`], without a key.
    pub fn append_table(&self) -> String {
        format!("{}_append", self.postgres_table())
    }

    pub fn cassandra_table(&self) -> String {
        names::cassandra_table(&self.world.id())
    }

    /// The pipeline as a file for workers.
    pub fn file(&self, setting: &Setting<'_>) -> Result<PathBuf> {
        let mut pipeline = self.pipeline.clone();
        if let Some(records) = setting.batch {
            pipeline["spec"]["workers"]["batch"] = json!({"maxRecords": records});
        }
        if setting.filtered {
            pipeline["spec"]["record"]["where"] = json!(messages::FILTER);
        }
        if !setting.encrypted {
            pipeline = in_plain_text(pipeline, Some(&json!({"mode": "Disable"})));
            pipeline["spec"]["postgres"]["credentialsSecretRef"]["name"] = json!(PLAIN_CREDENTIALS.1);
            pipeline["spec"]["source"] = self.pipeline["spec"]["source"].clone();
            if self.pipeline["spec"]["schemaRegistry"].is_null() {
                pipeline["spec"].as_object_mut().map(|spec| spec.remove("schemaRegistry"));
            }
        }
        if setting.sinks == Sinks::Cassandra {
            pipeline["spec"]["sinks"].as_object_mut().map(|sinks| sinks.remove("postgres"));
        }
        let path = self.mounted.folder().join("pipeline.yaml");
        fs::write(&path, pipeline.to_string())?;
        Ok(path)
    }

    /// Produces messages with these numbers. `message`: key, value and version.
    pub async fn produce(&self, numbers: std::ops::Range<u64>, message: impl Fn(u64) -> (String, Vec<u8>, Option<i64>)) -> Result<()> {
        for from in numbers.clone().step_by(usize::try_from(CHUNK)?) {
            let chunk = (from..numbers.end.min(from + CHUNK)).map(&message);
            stores::produce(&self.topic(), chunk.collect()).await?;
        }
        Ok(())
    }

    /// Forgets what workers have stored, so that they begin with the topic's first message again.
    pub async fn reset(&self) -> Result<()> {
        let group = self.group();
        self.db
            .execute("DELETE FROM userpipeline.progress WHERE group_id = $1", &[&group])
            .await?;
        self.db
            .batch_execute(&format!("TRUNCATE \"{}\", \"{}\"", self.postgres_table(), self.append_table()))
            .await?;
        let admin = stores::kafka_admin().await?;
        if admin.group_exists(&group).await? {
            admin.delete_group(&group).await?;
        }
        let cassandra = stores::cassandra(&self.world.client).await?;
        let statement = format!("TRUNCATE \"{}\".\"{}\"", self.keyspace(), self.cassandra_table());
        cassandra.query_unpaged(statement, &[]).await?;
        Ok(())
    }
}

//! What a pod receives: the resource, reduced to what its program uses.
//!
//! The operator writes it ([`reduce`]), the programs read it ([`IngestPipeline`], [`WorkerPipeline`]). A
//! program reads the reduced file, and the file that a user applies if it has no connections, alike: it reads
//! only its own parts, and fills in names.

mod connection;
mod file;
mod ingest;
mod mounts;
mod schema;
mod worker;

use serde_json::{Map, Value};

pub use self::{
    connection::CheckedConnection,
    file::DocumentError,
    ingest::{IngestPipeline, RunSchedule},
    mounts::{CONFIG_MAPS, Mounts},
    schema::{SchemaPipeline, Tables, schema_mounts},
    worker::{CassandraTarget, WorkerPipeline},
};
use crate::ResolvedPipeline;

/// A program that receives a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// `ingest-job`: one run.
    Ingest,
    /// `stream-worker`: topic to sinks.
    Worker,
    /// `stream-worker apply-schema`: topic, subject and tables.
    Schema,
}

impl Binary {
    /// Fields that the program uses, as paths below `spec`. A change of another field does not restart its
    /// pods. A test of the operator compares them with the fields of the program's type.
    const fn paths(self) -> &'static [&'static str] {
        match self {
            Self::Ingest => &[
                "schedule.cron",
                "schedule.timeZone",
                "schedule.startAt",
                "schedule.arguments",
                "source",
                "record",
                "postgres",
                "landing.table",
                "landing.raw",
                "kafka.bootstrapServers",
                "kafka.tls",
                "kafka.auth",
                "kafka.topic.name",
                // How large a record may be follows from both.
                "kafka.topic.config.max.message.bytes",
                "kafka.topic.management",
                "schemaRegistry.url",
                "schemaRegistry.tls",
                "schemaRegistry.auth",
            ],
            Self::Worker => &[
                "source.topic",
                "record",
                "postgres",
                "kafka.bootstrapServers",
                "kafka.tls",
                "kafka.auth",
                "kafka.groupId",
                "kafka.topic.name",
                "kafka.topic.id",
                "schemaRegistry.url",
                "schemaRegistry.tls",
                "schemaRegistry.auth",
                "cassandra",
                "sinks.cassandra.keyspace",
                "sinks.cassandra.table",
                "sinks.cassandra.consistency",
                "sinks.postgres.table",
                "aggregates",
                "deadLetter.topic",
                "deadLetter.maxRatio",
                "landing",
                "retention",
                "workers.batch",
            ],
            Self::Schema => &[
                "source.topic",
                "record",
                "postgres",
                "landing",
                "kafka",
                "schemaRegistry",
                "cassandra",
                "sinks",
                "aggregates",
                "deadLetter.topic",
                "deadLetter.retention",
            ],
        }
    }

    /// The Secrets and ConfigMaps that the program reads.
    pub fn mounts(self, pipeline: &ResolvedPipeline) -> Mounts {
        let spec = &pipeline.spec;
        let mut mounts = Mounts::default();
        mounts.stores(&spec.postgres, &spec.kafka, spec.schema_registry.as_ref());
        match self {
            Self::Ingest => {
                spec.source.http.iter().for_each(|http| mounts.source(http));
                spec.record.iter().for_each(|record| mounts.masks(record));
            }
            Self::Worker | Self::Schema => spec.cassandra.iter().for_each(|cassandra| mounts.cassandra(cassandra)),
        }
        mounts.sorted()
    }
}

/// The resolved resource, reduced to what `binary` uses. The same content always has the same
/// text.
///
/// # Panics
/// Never: a spec is JSON, and JSON is YAML.
pub fn reduce(pipeline: &ResolvedPipeline, binary: Binary) -> String {
    let id = &pipeline.id;
    let full = serde_json::to_value(&pipeline.spec).expect("a spec is JSON");
    let mut spec = Value::Object(Map::new());
    for path in binary.paths() {
        copy(&full, &mut spec, path);
    }
    let document = serde_json::json!({
        "apiVersion": "userpipeline.dev/v1alpha1",
        "kind": "UserPipeline",
        "metadata": {"name": id.name, "namespace": id.namespace},
        "spec": spec,
    });
    serde_yaml::to_string(&document).expect("JSON is YAML")
}

fn copy(from: &Value, to: &mut Value, path: &str) {
    // The name of a setting of Kafka's has dots of its own.
    let whole = from.get(path).map(|_| (path, None));
    let (head, rest) = whole.unwrap_or_else(|| path.split_once('.').map_or((path, None), |(head, rest)| (head, Some(rest))));
    let Some(value) = from.get(head) else { return };
    let Value::Object(to) = to else { return };
    let mut part = to.remove(head).unwrap_or_else(|| Value::Object(Map::new()));
    match rest {
        None => part = value.clone(),
        Some(rest) => copy(value, &mut part, rest),
    }
    // What says nothing is left out.
    if part.as_object().is_none_or(|part| !part.is_empty()) {
        to.insert(head.to_owned(), part);
    }
}

//! What a pod is handed: the resource itself, reduced to what its binary uses.
//!
//! The operator writes it ([`reduce`]), the binaries read it ([`IngestPipeline`], [`WorkerPipeline`]). A binary reads the
//! reduced file and the very file a user applies alike, because it looks only at its own parts and fills in names itself.

use kube::core::ObjectMeta;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::{
    Batch, Cassandra, DeadLetter, Kafka, Landing, Postgres, RecordSpec, Schedule, SchemaRegistry, Sinks, Source, UserPipeline, names,
    names::PipelineId,
};

/// A program that is handed a pipeline.
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
    /// What of the spec the binary uses, as paths below `spec`. Nothing else may roll its pods.
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
                "landing",
                "kafka.bootstrapServers",
                "kafka.topic.name",
                "schemaRegistry.url",
            ],
            Self::Worker => &[
                "record",
                "postgres",
                "kafka.bootstrapServers",
                "kafka.groupId",
                "kafka.topic.name",
                "schemaRegistry.url",
                "cassandra",
                "sinks.cassandra.keyspace",
                "sinks.cassandra.table",
                "sinks.cassandra.consistency",
                "sinks.postgres",
                "deadLetter",
                "workers.batch",
            ],
            Self::Schema => &[
                "record",
                "postgres",
                "landing",
                "kafka",
                "schemaRegistry",
                "cassandra",
                "sinks",
                "deadLetter",
            ],
        }
    }

    /// The Secrets the binary needs, each once, in the order of their names.
    pub fn secrets(self, pipeline: &UserPipeline) -> Vec<String> {
        let spec = &pipeline.spec;
        let mut secrets = vec![spec.postgres.credentials_secret_ref.name.clone()];
        match self {
            Self::Ingest => secrets.extend(spec.source.http.secrets().map(str::to_owned)),
            Self::Worker | Self::Schema => secrets.extend(spec.cassandra.iter().map(|c| c.credentials_secret_ref.name.clone())),
        }
        secrets.sort();
        secrets.dedup();
        secrets
    }
}

/// The resource with names filled in and reduced to what `binary` uses: the same text for the same content, always.
///
/// # Panics
/// Never: a spec is JSON, and JSON is YAML.
pub fn reduce(pipeline: &UserPipeline, binary: Binary) -> String {
    let id = PipelineId::of(pipeline);
    let named = names::with_names(pipeline.spec.clone(), &id);
    let full = serde_json::to_value(&named).expect("a spec is JSON");
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
    let (head, rest) = path.split_once('.').map_or((path, None), |(head, rest)| (head, Some(rest)));
    let Some(value) = from.get(head) else { return };
    let Value::Object(to) = to else { return };
    match rest {
        None => {
            to.insert(head.to_owned(), value.clone());
        }
        Some(rest) => copy(value, to.entry(head).or_insert_with(|| Value::Object(Map::new())), rest),
    }
}

/// Why a pipeline's file cannot be used.
#[derive(Debug)]
pub struct DocumentError(String);

impl std::fmt::Display for DocumentError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for DocumentError {}

#[derive(Deserialize)]
struct Document<S> {
    kind: String,
    metadata: ObjectMeta,
    spec: S,
}

fn read<S: DeserializeOwned>(text: &str) -> Result<(PipelineId, S), DocumentError> {
    let document: Document<S> = serde_yaml::from_str(text).map_err(|e| DocumentError(format!("the pipeline's file does not read: {e}")))?;
    if document.kind != "UserPipeline" {
        return Err(DocumentError(format!("the file holds a {}, not a UserPipeline", document.kind)));
    }
    let name = document
        .metadata
        .name
        .ok_or_else(|| DocumentError("metadata.name is missing".to_owned()))?;
    let namespace = document.metadata.namespace.unwrap_or_else(|| "default".to_owned());
    Ok((PipelineId { namespace, name }, document.spec))
}

/// What `ingest-job` works by.
#[derive(Clone, Debug)]
pub struct IngestPipeline {
    /// Which pipeline.
    pub id: PipelineId,
    /// When runs are due.
    pub schedule: Schedule,
    /// Where records come from.
    pub source: Source,
    /// What a record is; a user when not given.
    pub record: Option<RecordSpec>,
    /// Where they land.
    pub postgres: Postgres,
    /// In which table.
    pub landing_table: String,
    /// The brokers.
    pub bootstrap_servers: String,
    /// The topic they are published to.
    pub topic: String,
    /// The registry's address.
    pub registry_url: String,
}

impl IngestPipeline {
    /// Reads a pipeline's file.
    pub fn read(text: &str) -> Result<Self, DocumentError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Parts {
            schedule: Schedule,
            source: Source,
            record: Option<RecordSpec>,
            postgres: Postgres,
            #[serde(default)]
            landing: Landing,
            kafka: Kafka,
            schema_registry: SchemaRegistry,
        }
        let (id, parts) = read::<Parts>(text)?;
        Ok(Self {
            landing_table: parts.landing.table.unwrap_or_else(|| names::landing_table(&id)),
            topic: parts.kafka.topic.name.unwrap_or_else(|| names::topic(&id)),
            id,
            schedule: parts.schedule,
            source: parts.source,
            record: parts.record,
            postgres: parts.postgres,
            bootstrap_servers: parts.kafka.bootstrap_servers,
            registry_url: parts.schema_registry.url,
        })
    }
}

/// What `stream-worker` works by.
#[derive(Clone, Debug)]
pub struct WorkerPipeline {
    /// Which pipeline.
    pub id: PipelineId,
    /// What a record is; a user when not given.
    pub record: Option<RecordSpec>,
    /// The bookkeeping's database, and the sink's.
    pub postgres: Postgres,
    /// The brokers.
    pub bootstrap_servers: String,
    /// The consumer group.
    pub group_id: String,
    /// The topic that is read.
    pub topic: String,
    /// The topic of what can not be read or stored.
    pub dead_letter_topic: String,
    /// The registry's address.
    pub registry_url: String,
    /// The cluster and table in Cassandra, if that is a sink.
    pub cassandra: Option<CassandraTarget>,
    /// The table in PostgreSQL, if that is a sink.
    pub postgres_table: Option<String>,
    /// How records are gathered.
    pub batch: Batch,
}

/// A table in Cassandra and how to get there.
#[derive(Clone, Debug)]
pub struct CassandraTarget {
    /// The cluster.
    pub cluster: Cassandra,
    /// The keyspace.
    pub keyspace: String,
    /// The table.
    pub table: String,
    /// How many replicas must acknowledge a write.
    pub consistency: crate::Consistency,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SinkParts {
    cassandra: Option<CassandraSinkParts>,
    postgres: Option<crate::PostgresSink>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CassandraSinkParts {
    keyspace: Option<String>,
    table: Option<String>,
    #[serde(default)]
    consistency: crate::Consistency,
}

fn cassandra_target(
    id: &PipelineId,
    cluster: Option<Cassandra>,
    sink: Option<CassandraSinkParts>,
) -> Result<Option<CassandraTarget>, DocumentError> {
    match (cluster, sink) {
        (Some(cluster), Some(sink)) => Ok(Some(CassandraTarget {
            keyspace: sink.keyspace.unwrap_or_else(|| names::keyspace(id)),
            table: sink.table.unwrap_or_else(|| names::cassandra_table(id)),
            consistency: sink.consistency,
            cluster,
        })),
        (None, Some(_)) => Err(DocumentError("spec.cassandra is needed by spec.sinks.cassandra".to_owned())),
        (_, None) => Ok(None),
    }
}

impl WorkerPipeline {
    /// Reads a pipeline's file.
    pub fn read(text: &str) -> Result<Self, DocumentError> {
        #[derive(Default, Deserialize)]
        struct WorkerParts {
            #[serde(default)]
            batch: Batch,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Parts {
            record: Option<RecordSpec>,
            postgres: Postgres,
            kafka: Kafka,
            schema_registry: SchemaRegistry,
            cassandra: Option<Cassandra>,
            sinks: SinkParts,
            #[serde(default)]
            dead_letter: DeadLetter,
            #[serde(default)]
            workers: WorkerParts,
        }
        let (id, parts) = read::<Parts>(text)?;
        let topic = parts.kafka.topic.name.unwrap_or_else(|| names::topic(&id));
        Ok(Self {
            record: parts.record,
            postgres: parts.postgres,
            bootstrap_servers: parts.kafka.bootstrap_servers,
            group_id: parts.kafka.group_id.unwrap_or_else(|| names::group_id(&id)),
            dead_letter_topic: parts.dead_letter.topic.unwrap_or_else(|| names::dead_letter_topic(&topic)),
            topic,
            registry_url: parts.schema_registry.url,
            cassandra: cassandra_target(&id, parts.cassandra, parts.sinks.cassandra)?,
            postgres_table: parts
                .sinks
                .postgres
                .map(|sink| sink.table.unwrap_or_else(|| names::postgres_table(&id))),
            batch: parts.workers.batch,
            id,
        })
    }
}

/// What `stream-worker apply-schema` works by.
#[derive(Clone, Debug)]
pub struct SchemaPipeline {
    /// Which pipeline.
    pub id: PipelineId,
    /// What a record is; a user when not given.
    pub record: Option<RecordSpec>,
    /// The bookkeeping's database.
    pub postgres: Postgres,
    /// The landing table.
    pub landing_table: String,
    /// The table in PostgreSQL, if that is a sink.
    pub postgres_table: Option<String>,
    /// Brokers and topic; all names are filled in.
    pub kafka: Kafka,
    /// The topic.
    pub topic: String,
    /// The consumer group.
    pub group_id: String,
    /// The dead-letter topic.
    pub dead_letter_topic: String,
    /// The registry.
    pub schema_registry: SchemaRegistry,
    /// The cluster and table in Cassandra, if that is a sink.
    pub cassandra: Option<CassandraTarget>,
    /// How many copies each datacenter keeps; empty without that sink.
    pub replication: std::collections::BTreeMap<String, i32>,
}

impl SchemaPipeline {
    /// Reads a pipeline's file.
    pub fn read(text: &str) -> Result<Self, DocumentError> {
        #[derive(Deserialize, Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Parts {
            record: Option<RecordSpec>,
            postgres: Postgres,
            #[serde(default)]
            landing: Landing,
            kafka: Kafka,
            schema_registry: SchemaRegistry,
            cassandra: Option<Cassandra>,
            sinks: Sinks,
            #[serde(default)]
            dead_letter: DeadLetter,
        }
        let (id, parts) = read::<Parts>(text)?;
        let topic = parts.kafka.topic.name.clone().unwrap_or_else(|| names::topic(&id));
        let replication = parts.sinks.cassandra.as_ref().map(|s| s.replication.clone()).unwrap_or_default();
        let sink = parts.sinks.cassandra.map(|s| CassandraSinkParts {
            keyspace: s.keyspace,
            table: s.table,
            consistency: s.consistency,
        });
        Ok(Self {
            record: parts.record,
            postgres: parts.postgres,
            landing_table: parts.landing.table.unwrap_or_else(|| names::landing_table(&id)),
            postgres_table: parts
                .sinks
                .postgres
                .map(|sink| sink.table.unwrap_or_else(|| names::postgres_table(&id))),
            group_id: parts.kafka.group_id.clone().unwrap_or_else(|| names::group_id(&id)),
            kafka: parts.kafka,
            dead_letter_topic: parts.dead_letter.topic.unwrap_or_else(|| names::dead_letter_topic(&topic)),
            topic,
            schema_registry: parts.schema_registry,
            cassandra: cassandra_target(&id, parts.cassandra, sink)?,
            replication,
            id,
        })
    }
}

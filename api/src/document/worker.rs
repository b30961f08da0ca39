//! What `stream-worker` receives.

use serde::{Deserialize, Serialize};

use super::file::{DocumentError, read};
use crate::{
    Aggregate, Batch, Brokers, Cassandra, DeadLetter, Kafka, Landing, Postgres, RecordSpec, Retention, SchemaRegistry, TableManagement,
    TopicFormat, TopicSource, names, names::PipelineId,
};

/// A pipeline, as `stream-worker` reads it.
#[derive(Clone, Debug)]
pub struct WorkerPipeline {
    /// Identity of the pipeline.
    pub id: PipelineId,
    /// The record. Default: a user.
    pub record: Option<RecordSpec>,
    /// Database of the bookkeeping and of the sink.
    pub postgres: Postgres,
    /// How to reach the brokers.
    pub brokers: Brokers,
    /// The consumer group.
    pub group_id: String,
    /// The topic.
    pub topic: String,
    /// The id of the topic. Another topic of this name is not read. None: any is.
    pub topic_id: Option<String>,
    /// Format of other producers' messages. None if runs write to the topic.
    pub written: Option<TopicFormat>,
    /// Dead-letter topic.
    pub dead_letter_topic: String,
    /// Greatest allowed share of dead letters, 0 to 1.
    pub max_dead_letter_ratio: f64,
    /// The schema registry. None if nothing is Avro.
    pub registry: Option<SchemaRegistry>,
    /// Cluster and table in Cassandra, if that is a sink.
    pub cassandra: Option<CassandraTarget>,
    /// The table in PostgreSQL, if that is a sink.
    pub postgres_table: Option<String>,
    /// Aggregates of that table.
    pub aggregates: Vec<Aggregate>,
    /// When a batch is written.
    pub batch: Batch,
    /// The landing table. None with `source.topic`.
    pub landing_table: Option<String>,
    /// Who creates the landing table.
    pub landing_management: TableManagement,
    /// Retention of what the pipeline stores beside its sinks.
    pub retention: Retention,
}

/// A table in Cassandra, and its cluster.
#[derive(Clone, Debug)]
pub struct CassandraTarget {
    /// The cluster.
    pub cluster: Cassandra,
    /// The keyspace.
    pub keyspace: String,
    /// The table.
    pub table: String,
    /// Number of replicas that must acknowledge a write.
    pub consistency: crate::Consistency,
}

/// The part of the source that concerns readers of the topic.
#[derive(Default, Deserialize, Serialize)]
pub(super) struct TopicPart {
    pub topic: Option<TopicSource>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SinkParts {
    cassandra: Option<CassandraSinkParts>,
    postgres: Option<crate::PostgresSink>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CassandraSinkParts {
    pub keyspace: Option<String>,
    pub table: Option<String>,
    #[serde(default)]
    pub consistency: crate::Consistency,
}

pub(super) fn cassandra_target(
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
    /// The tables of the sinks in PostgreSQL and Cassandra.
    pub fn sink_tables(&self) -> (Option<&str>, Option<&str>) {
        (
            self.postgres_table.as_deref(),
            self.cassandra.as_ref().map(|target| target.table.as_str()),
        )
    }

    /// Parses a pipeline's file.
    pub fn read(text: &str) -> Result<Self, DocumentError> {
        #[derive(Default, Deserialize)]
        struct WorkerParts {
            #[serde(default)]
            batch: Batch,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Parts {
            #[serde(default)]
            source: TopicPart,
            record: Option<RecordSpec>,
            postgres: Postgres,
            kafka: Kafka,
            schema_registry: Option<SchemaRegistry>,
            cassandra: Option<Cassandra>,
            sinks: SinkParts,
            #[serde(default)]
            aggregates: Vec<Aggregate>,
            #[serde(default)]
            dead_letter: DeadLetter,
            #[serde(default)]
            landing: Landing,
            #[serde(default)]
            retention: Retention,
            #[serde(default)]
            workers: WorkerParts,
        }
        let (id, parts) = read::<Parts>(text)?;
        let brokers = parts.kafka.brokers();
        let topic_id = parts.kafka.topic.id;
        let topic = parts.kafka.topic.name.unwrap_or_else(|| names::topic(&id));
        Ok(Self {
            record: parts.record,
            postgres: parts.postgres,
            brokers,
            group_id: parts.kafka.group_id.unwrap_or_else(|| names::group_id(&id)),
            dead_letter_topic: parts.dead_letter.topic.unwrap_or_else(|| names::dead_letter_topic(&topic)),
            max_dead_letter_ratio: parts.dead_letter.max_ratio,
            topic,
            topic_id,
            written: parts.source.topic.as_ref().map(|topic| topic.format),
            registry: parts.schema_registry.map(SchemaRegistry::without_compatibility),
            cassandra: cassandra_target(&id, parts.cassandra, parts.sinks.cassandra)?,
            postgres_table: parts
                .sinks
                .postgres
                .map(|sink| sink.table.unwrap_or_else(|| names::postgres_table(&id))),
            aggregates: parts.aggregates,
            batch: parts.workers.batch,
            landing_table: parts
                .source
                .topic
                .is_none()
                .then(|| parts.landing.table.unwrap_or_else(|| names::landing_table(&id))),
            landing_management: parts.landing.management,
            retention: parts.retention,
            id,
        })
    }
}

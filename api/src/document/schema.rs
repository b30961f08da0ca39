//! What `stream-worker apply-schema` receives.

use serde::{Deserialize, Serialize};

use super::{
    file::{DocumentError, read},
    mounts::Mounts,
    worker::{CassandraSinkParts, CassandraTarget, TopicPart, cassandra_target},
};
use crate::{
    Aggregate, Cassandra, Compaction, DeadLetter, Duration, Kafka, Landing, Postgres, RecordSpec, SchemaRegistry, Sinks, TableManagement,
    names, names::PipelineId,
};

/// Who creates each table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// The landing table.
    pub landing: TableManagement,
    /// The sink table in PostgreSQL.
    pub postgres: TableManagement,
    /// Keyspace and table in Cassandra.
    pub cassandra: TableManagement,
}

/// A pipeline, as `stream-worker apply-schema` reads it.
#[derive(Clone, Debug)]
pub struct SchemaPipeline {
    /// Identity of the pipeline.
    pub id: PipelineId,
    /// The record. Default: a user.
    pub record: Option<RecordSpec>,
    /// Database of the bookkeeping.
    pub postgres: Postgres,
    /// The landing table. None with `source.topic`.
    pub landing_table: Option<String>,
    /// Who creates each table.
    pub tables: Tables,
    /// The sink table in PostgreSQL, if that is a sink.
    pub postgres_table: Option<String>,
    /// Aggregates of the sink table.
    pub aggregates: Vec<Aggregate>,
    /// Brokers and topic, with all names filled in.
    pub kafka: Kafka,
    /// Name of the topic.
    pub topic: String,
    /// Consumer group.
    pub group_id: String,
    /// Dead-letter topic.
    pub dead_letter_topic: String,
    /// How long dead letters are kept.
    pub dead_letter_retention: std::time::Duration,
    /// Registry for the record's schema. None with `source.topic`.
    pub schema_registry: Option<SchemaRegistry>,
    /// Cluster and table in Cassandra, if that is a sink.
    pub cassandra: Option<CassandraTarget>,
    /// Number of replicas in each datacenter. Empty without Cassandra.
    pub replication: std::collections::BTreeMap<String, i32>,
    /// Time to live of Cassandra's rows.
    pub time_to_live: Option<Duration>,
    /// Compaction of Cassandra's table.
    pub compaction: Option<Compaction>,
}

impl SchemaPipeline {
    /// The tables of the sinks in PostgreSQL and Cassandra.
    pub fn sink_tables(&self) -> (Option<&str>, Option<&str>) {
        (
            self.postgres_table.as_deref(),
            self.cassandra.as_ref().map(|target| target.table.as_str()),
        )
    }

    /// Parses a pipeline's file.
    pub fn read(text: &str) -> Result<Self, DocumentError> {
        #[derive(Deserialize, Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Parts {
            #[serde(default)]
            source: TopicPart,
            record: Option<RecordSpec>,
            postgres: Postgres,
            #[serde(default)]
            landing: Landing,
            kafka: Kafka,
            schema_registry: Option<SchemaRegistry>,
            cassandra: Option<Cassandra>,
            sinks: Sinks,
            #[serde(default)]
            aggregates: Vec<Aggregate>,
            #[serde(default)]
            dead_letter: DeadLetter,
        }
        let (id, parts) = read::<Parts>(text)?;
        let ours = parts.source.topic.is_none();
        let topic = parts.kafka.topic.name.clone().unwrap_or_else(|| names::topic(&id));
        let replication = parts.sinks.cassandra.as_ref().map(|s| s.replication.clone()).unwrap_or_default();
        let (time_to_live, compaction) = parts
            .sinks
            .cassandra
            .as_ref()
            .map_or((None, None), |sink| (sink.time_to_live, sink.compaction.clone()));
        let tables = Tables {
            landing: parts.landing.management,
            postgres: parts.sinks.postgres.as_ref().map(|sink| sink.management).unwrap_or_default(),
            cassandra: parts.sinks.cassandra.as_ref().map(|sink| sink.management).unwrap_or_default(),
        };
        let sink = parts.sinks.cassandra.map(|s| CassandraSinkParts {
            keyspace: s.keyspace,
            table: s.table,
            consistency: s.consistency,
        });
        Ok(Self {
            record: parts.record,
            postgres: parts.postgres,
            landing_table: ours.then(|| parts.landing.table.unwrap_or_else(|| names::landing_table(&id))),
            tables,
            postgres_table: parts
                .sinks
                .postgres
                .map(|sink| sink.table.unwrap_or_else(|| names::postgres_table(&id))),
            group_id: parts.kafka.group_id.clone().unwrap_or_else(|| names::group_id(&id)),
            kafka: parts.kafka,
            aggregates: parts.aggregates,
            dead_letter_topic: parts.dead_letter.topic.unwrap_or_else(|| names::dead_letter_topic(&topic)),
            dead_letter_retention: parts.dead_letter.retention.into(),
            topic,
            schema_registry: parts.schema_registry.filter(|_| ours),
            cassandra: cassandra_target(&id, parts.cassandra, sink)?,
            replication,
            time_to_live,
            compaction,
            id,
        })
    }
}

/// What the program mounts for a document that it was given earlier, from the document itself.
pub fn schema_mounts(text: &str) -> Result<Mounts, DocumentError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Parts {
        postgres: Postgres,
        kafka: Kafka,
        schema_registry: Option<SchemaRegistry>,
        cassandra: Option<Cassandra>,
    }
    let (_, parts) = read::<Parts>(text)?;
    let mut mounts = Mounts::default();
    mounts.stores(&parts.postgres, &parts.kafka, parts.schema_registry.as_ref());
    if let Some(cassandra) = &parts.cassandra {
        mounts.cassandra(cassandra);
    }
    Ok(mounts.sorted())
}

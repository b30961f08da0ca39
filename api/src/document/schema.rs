//! What `stream-worker apply-schema` is handed.

use serde::{Deserialize, Serialize};

use super::{
    file::{DocumentError, read},
    worker::{CassandraSinkParts, CassandraTarget, TopicPart, cassandra_target},
};
use crate::{
    Cassandra, Compaction, DeadLetter, Duration, Kafka, Landing, Postgres, RecordSpec, SchemaRegistry, Sinks, TableManagement, names,
    names::PipelineId,
};

/// Who makes which table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// The landing table.
    pub landing: TableManagement,
    /// The sink table in PostgreSQL.
    pub postgres: TableManagement,
    /// Keyspace and table in Cassandra.
    pub cassandra: TableManagement,
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
    /// The landing table; none where others write to the topic.
    pub landing_table: Option<String>,
    /// Who makes which table.
    pub tables: Tables,
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
    /// How long dead letters are kept.
    pub dead_letter_retention: std::time::Duration,
    /// The registry in which the record's schema is registered; none where others write to the topic, as they see fit.
    pub schema_registry: Option<SchemaRegistry>,
    /// The cluster and table in Cassandra, if that is a sink.
    pub cassandra: Option<CassandraTarget>,
    /// How many copies each datacenter keeps; empty without that sink.
    pub replication: std::collections::BTreeMap<String, i32>,
    /// How long its rows stay.
    pub time_to_live: Option<Duration>,
    /// How it merges them.
    pub compaction: Option<Compaction>,
}

impl SchemaPipeline {
    /// Reads a pipeline's file.
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

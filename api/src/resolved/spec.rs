//! The complete parts of a pipeline.

use serde::Serialize;

use super::kafka::{Kafka, SchemaRegistry};
use crate::{
    Cassandra, CassandraTls, DeadLetter, KafkaTls, Landing, Postgres, PostgresTls, Proxy, RecordSpec, Retention, Schedule, Sinks, Source,
    Workers, names::PipelineId,
};

/// A pipeline whose blocks are complete, and whose names are filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct ResolvedPipeline {
    /// Identity of the pipeline.
    pub id: PipelineId,
    /// The part of the spec that documents are made from.
    pub spec: ResolvedSpec,
    /// Proxy of runs: that of the connection with the source, or `pods.ingest.proxy`.
    pub ingest_proxy: Option<Proxy>,
}

/// The part of a spec that documents are made from, complete.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResolvedSpec {
    /// When runs start. None with `source.topic`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// Where records come from: `http` has a url and no path.
    pub source: Source,
    /// The record. Default: a user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<RecordSpec>,
    /// PostgreSQL database.
    pub postgres: Postgres,
    /// The landing table.
    pub landing: Landing,
    /// Kafka cluster, topic and consumer group.
    pub kafka: Kafka,
    /// Schema registry. None if nothing is Avro.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema_registry: Option<SchemaRegistry>,
    /// Cassandra cluster of the sink.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cassandra: Option<Cassandra>,
    /// Sinks.
    pub sinks: Sinks,
    /// Dead letters.
    pub dead_letter: DeadLetter,
    /// Retention of what the pipeline stores beside its sinks.
    pub retention: Retention,
    /// Workers.
    pub workers: Workers,
}

impl ResolvedSpec {
    /// The spec with plain text where it does not mention TLS: for pipelines that were created before there
    /// was TLS. Programs that find no `tls` verify fully.
    #[must_use]
    pub fn with_plain_text_wires(mut self) -> Self {
        self.postgres.tls.get_or_insert_with(PostgresTls::disabled);
        self.kafka.tls.get_or_insert_with(KafkaTls::disabled);
        if let Some(cassandra) = &mut self.cassandra {
            cassandra.tls.get_or_insert_with(CassandraTls::disabled);
        }
        self
    }
}

//! The complete parts of a pipeline.

use serde::Serialize;

use super::{
    kafka::{Kafka, SchemaRegistry},
    kafka_user::PipelineUser,
};
use crate::{
    Aggregate, Cassandra, CassandraTls, DeadLetter, KafkaTls, Landing, Postgres, PostgresTls, PostgresTlsMode, Proxy, RecordSpec,
    Retention, Schedule, Sinks, Source, StrimziListener, TlsMode, Workers, names::PipelineId,
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
    /// The listener that the Kafka block comes from, if Strimzi runs the cluster.
    pub strimzi: Option<StrimziListener>,
    /// The `KafkaUser` that the operator creates for the pipeline.
    pub kafka_user: Option<PipelineUser>,
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
    /// Aggregates.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aggregates: Vec<Aggregate>,
    /// Dead letters.
    pub dead_letter: DeadLetter,
    /// Retention of what the pipeline stores beside its sinks.
    pub retention: Retention,
    /// Workers.
    pub workers: Workers,
}

impl ResolvedSpec {
    /// The paths of the `tls` blocks that the spec omits. The scheme of a URL decides for the source and the
    /// schema registry, so they are not among them.
    pub fn stores_without_tls(&self) -> Vec<&'static str> {
        let cassandra = self.cassandra.as_ref();
        [
            ("spec.postgres.tls", self.postgres.tls.is_none()),
            ("spec.kafka.tls", self.kafka.tls.is_none()),
            ("spec.cassandra.tls", cassandra.is_some_and(|cassandra| cassandra.tls.is_none())),
        ]
        .into_iter()
        .filter_map(|(path, is_missing)| is_missing.then_some(path))
        .collect()
    }

    /// The spec with plain text where it omits `tls`. Programs that find no `tls` verify fully.
    #[must_use]
    pub fn with_plain_text_default(mut self) -> Self {
        self.postgres.tls.get_or_insert_with(|| PostgresTls {
            mode: PostgresTlsMode::Disable,
            ..PostgresTls::default()
        });
        self.kafka.tls.get_or_insert_with(|| KafkaTls {
            mode: TlsMode::Disable,
            ..KafkaTls::default()
        });
        if let Some(cassandra) = &mut self.cassandra {
            cassandra.tls.get_or_insert_with(|| CassandraTls {
                mode: TlsMode::Disable,
                ..CassandraTls::default()
            });
        }
        self
    }
}

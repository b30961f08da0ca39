//! What `ingest-job` is handed.

use serde::Deserialize;

use super::file::{DocumentError, read};
use crate::{HttpSource, Kafka, Landing, Postgres, RecordSpec, Schedule, SchemaRegistry, Source, names, names::PipelineId};

/// What `ingest-job` works by.
#[derive(Clone, Debug)]
pub struct IngestPipeline {
    /// Which pipeline.
    pub id: PipelineId,
    /// When runs are due.
    pub schedule: Schedule,
    /// Where records come from.
    pub source: HttpSource,
    /// The greatest share of items that may be no records.
    pub max_rejected_ratio: f64,
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
    /// The largest record, in bytes, that a message to it has room for; see [`crate::Topic::record_limit`].
    pub max_record: usize,
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
            max_record: parts.kafka.topic.record_limit(),
            topic: parts.kafka.topic.name.unwrap_or_else(|| names::topic(&id)),
            id,
            schedule: parts.schedule,
            source: parts
                .source
                .http
                .ok_or_else(|| DocumentError("spec.source.http is missing: with spec.source.topic there are no runs".to_owned()))?,
            max_rejected_ratio: parts.source.max_rejected_ratio,
            record: parts.record,
            postgres: parts.postgres,
            bootstrap_servers: parts.kafka.bootstrap_servers,
            registry_url: parts.schema_registry.url,
        })
    }
}

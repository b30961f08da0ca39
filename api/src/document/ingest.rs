//! What `ingest-job` receives.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Deserialize;

use super::file::{DocumentError, read};
use crate::{
    Brokers, HttpSource, Kafka, Landing, Postgres, RawItems, RecordSpec, SchemaRegistry, Source, names, names::PipelineId, schedule::utc,
};

/// A pipeline, as `ingest-job` reads it.
#[derive(Clone, Debug)]
pub struct IngestPipeline {
    /// Identity of the pipeline.
    pub id: PipelineId,
    /// When runs start, and the arguments of each.
    pub schedule: RunSchedule,
    /// Where records come from.
    pub source: HttpSource,
    /// Greatest allowed share of rejected items, 0 to 1.
    pub max_rejected_ratio: f64,
    /// The record. Default: a user.
    pub record: Option<RecordSpec>,
    /// Database of the landing table.
    pub postgres: Postgres,
    /// The landing table.
    pub landing_table: String,
    /// What is stored of items as they were served.
    pub raw: Option<RawItems>,
    /// How to reach the brokers.
    pub brokers: Brokers,
    /// The topic.
    pub topic: String,
    /// The largest record, in bytes: [`crate::Topic::record_limit`].
    pub max_record: usize,
    /// The schema registry.
    pub registry: SchemaRegistry,
}

/// The part of the schedule that a run uses.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunSchedule {
    /// Schedule in five fields.
    pub cron: String,
    /// Time zone of `cron`.
    #[serde(default = "utc")]
    pub time_zone: String,
    /// The first data interval begins at the first tick at or after this time.
    pub start_at: Option<Time>,
    /// Values for `{{arguments.NAME}}`.
    #[serde(default)]
    pub arguments: BTreeMap<String, String>,
}

impl IngestPipeline {
    /// Parses a pipeline's file.
    pub fn read(text: &str) -> Result<Self, DocumentError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Parts {
            schedule: RunSchedule,
            source: Source,
            record: Option<RecordSpec>,
            postgres: Postgres,
            #[serde(default)]
            landing: Landing,
            kafka: Kafka,
            schema_registry: SchemaRegistry,
        }
        let (id, parts) = read::<Parts>(text)?;
        let source = parts
            .source
            .http
            .ok_or_else(|| DocumentError("spec.source.http is missing: with spec.source.topic there are no runs".to_owned()))?;
        if source.url.is_none() {
            return Err(DocumentError(
                "spec.source.http.url is missing: programs do not read connections, so spec.source.http.path is not enough".to_owned(),
            ));
        }
        Ok(Self {
            raw: parts.landing.raw,
            landing_table: parts.landing.table.unwrap_or_else(|| names::landing_table(&id)),
            brokers: parts.kafka.brokers(),
            max_record: parts.kafka.topic.record_limit(),
            topic: parts.kafka.topic.name.unwrap_or_else(|| names::topic(&id)),
            id,
            schedule: parts.schedule,
            source,
            max_rejected_ratio: parts.source.max_rejected_ratio,
            record: parts.record,
            postgres: parts.postgres,
            registry: parts.schema_registry.without_compatibility(),
        })
    }
}

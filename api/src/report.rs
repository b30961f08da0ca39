//! What a pod reports to the operator: a termination message (JSON, under 4 KB), or a worker's `/status`.

use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{BlockCheck, ExistingTopic, Interval, RunKind, StoreIdentity, StoreObject, text::truncate};

/// Longest message of a report, in bytes. Kubernetes truncates a termination message at 4096 bytes, JSON
/// included.
const MESSAGE_LIMIT: usize = 1024;
/// Longest warning of a report, in bytes.
const WARNING_LIMIT: usize = 512;

/// Exit codes of the Jobs' programs.
pub mod exit {
    /// The program succeeded.
    pub const DONE: u8 = 0;
    /// A retry may succeed.
    pub const RETRY: u8 = 1;
    /// The configuration is wrong: a retry without a change fails again.
    pub const CONFIGURATION: u8 = 2;
}

/// Path of a container's termination message: Kubernetes' default.
pub const TERMINATION_LOG: &str = "/dev/termination-log";

/// A worker's reason if the topic does not exist. The operator then no longer relies on `TopicReady`.
pub const TOPIC_MISSING: &str = "TopicMissing";

/// The topic does not have the expected id: it was deleted, and re-created without its messages.
pub const TOPIC_REPLACED: &str = "TopicReplaced";

/// Port of a worker's `/livez`, `/readyz`, `/metrics` and `/status`.
pub const WORKER_PORT: u16 = 8080;

/// Report of a run of `ingest-job`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RunReport {
    /// Id of the run in the ledger.
    pub run_id: String,
    /// Time for which the run was scheduled. Absent for a manual run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduled_at: Option<Timestamp>,
    /// Why the run happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<RunKind>,
    /// Data interval of the run. Absent if the schedule has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Interval>,
    /// Number of attempts, this one included. 0 if the ledger could not be opened.
    pub attempt: i32,
    /// Time at which this attempt started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// Time at which this attempt ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// Reason for the outcome, in CamelCase: `Completed`, `AlreadyDone`, `SourceFailed`.
    pub reason: String,
    /// Message for the outcome.
    pub message: String,
    /// Number of requests that returned a page.
    pub pages: i64,
    /// Number of items that the source served.
    pub items: i64,
    /// Size of these items, in bytes.
    pub bytes: i64,
    /// Number of record versions landed: new records and changed ones.
    pub landed: i64,
    /// Number of landed record versions that do not pass `spec.record.where`.
    pub filtered: i64,
    /// Number of record versions published, including those of interrupted runs.
    pub published: i64,
    /// Number of rejected items.
    pub rejected: i64,
    /// Total of record versions that this pipeline landed, from the ledger. Absent if the ledger could not be
    /// read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_fetched: Option<i64>,
    /// Why data may be missing although the run succeeded, and the spec that would fetch it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// Report of `stream-worker apply-schema`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SchemaReport {
    /// Reason for the outcome, in CamelCase: `Applied`, or the cause of the failure.
    pub reason: String,
    /// Message for the outcome.
    pub message: String,
    /// Whether the topic exists and matches the spec. Absent if the Job did not reach that step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic_ready: Option<bool>,
    /// Number of partitions of the topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitions: Option<i32>,
    /// Id of the topic, as Kafka's tools print it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic_id: Option<String>,
    /// Id of the schema in the registry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema_id: Option<i32>,
    /// Id of the Kafka cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kafka_cluster: Option<String>,
    /// PostgreSQL database, as `SYSTEM_IDENTIFIER/DATABASE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres_system: Option<String>,
    /// Objects that the Job created, or was about to create when it was interrupted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub created_objects: Vec<StoreObject>,
    /// Whether `createdObjects` has everything that the claims of an older pipeline show as created.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub has_all_claimed: bool,
    /// The stores that the Job has identified.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub store_identities: Vec<StoreIdentity>,
}

/// Report of `stream-worker inspect-topics`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InspectionReport {
    /// Reason for the outcome, in CamelCase: `Inspected`, or the cause of the failure.
    pub reason: String,
    /// Message for the outcome.
    pub message: String,
    /// Id of the Kafka cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kafka_cluster: Option<String>,
    /// The topic and the dead-letter topic, as far as they exist.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub existing: Vec<ExistingTopic>,
}

/// Report of `stream-worker verify-drained`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DrainReport {
    /// Reason for the outcome, in CamelCase: `Drained`, or the cause of the failure.
    pub reason: String,
    /// Message for the outcome.
    pub message: String,
    /// Number of partitions of the topic.
    pub partitions: i32,
    /// Committed offsets of the group, by partition. For a topic with many partitions, the first ones.
    pub offsets: Vec<(i32, i64)>,
    /// Number of messages on the topic that are not stored.
    pub lag: i64,
}

/// Report of `stream-worker delete-data`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeletionReport {
    /// Reason for the outcome, in CamelCase: `Deleted`, or the cause of the failure.
    pub reason: String,
    /// Message for the outcome.
    pub message: String,
}

/// Report of `stream-worker check-connection`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConnectionReport {
    /// Reason for the outcome, in CamelCase: `Checked`, or the cause of the failure.
    pub reason: String,
    /// Message for the outcome.
    pub message: String,
    /// Results by block.
    pub blocks: Vec<BlockCheck>,
}

/// A worker's `/status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkerReport {
    /// Whether the worker consumes and stores.
    pub ready: bool,
    /// Reason why it does not, in CamelCase. Empty if it is ready.
    pub reason: String,
    /// Message why it does not. Empty if it is ready.
    pub message: String,
    /// Number of partitions of the topic. 0 while unknown.
    pub topic_partitions: i32,
    /// Partitions that this worker owns.
    pub partitions: Vec<PartitionReport>,
    /// Totals of the pipeline, from PostgreSQL. Absent until they are read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub totals: Option<StoredTotals>,
    /// Time of the last commit of offsets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_commit_at: Option<Timestamp>,
    /// Records stored per second, over the last minute.
    pub stored_per_second: f64,
    /// With `source.topic`: since this worker started, messages of one record with equal values of `orderBy`
    /// were on several partitions, so none of them is later.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub has_unordered_messages: bool,
}

/// A partition of a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PartitionReport {
    /// Number of the partition.
    pub partition: i32,
    /// Next offset to store.
    pub next_offset: i64,
    /// Offset after the last message, from the broker. Absent until the broker has responded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_offset: Option<i64>,
    /// `end` minus the next offset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag: Option<i64>,
    /// Every message written before this time is stored. Absent until a message was stored, or the end was
    /// reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stored_through: Option<Timestamp>,
}

/// Totals of a pipeline.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StoredTotals {
    /// Number of topic offsets acknowledged by every sink.
    pub stored: i64,
    /// Number of messages sent to the dead-letter topic.
    pub dead_lettered: i64,
    /// Number of items that the source served to runs.
    pub items: i64,
    /// Size of these items, in bytes.
    pub bytes: i64,
    /// Number of record versions published.
    pub published: i64,
    /// Number of record versions that an aggregate did not count, because their windows had expired.
    pub late: i64,
    /// Number of record versions landed, or with `source.topic` of messages stored, that do not pass
    /// `spec.record.where`.
    pub filtered: i64,
    /// Rejected items, by field and class.
    pub rejects: Vec<RejectTotal>,
}

/// Number of rejected items with the same field and class.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RejectTotal {
    /// Field of the record. Empty for the item as a whole.
    pub field: String,
    /// Reject class.
    pub class: String,
    /// Number of items.
    pub items: i64,
}

/// Truncates a message so that the report that carries it is a valid termination message. Control characters,
/// which JSON writes as six characters, become spaces.
pub fn cut_message(message: &str) -> String {
    cut(message, MESSAGE_LIMIT)
}

/// Truncates a warning in the same way.
pub fn cut_warning(warning: &str) -> String {
    cut(warning, WARNING_LIMIT)
}

fn cut(text: &str, limit: usize) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    truncate(&text, limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_with_the_longest_message_fits_a_termination_message() {
        for worst in ["\"", "\u{1}", "\u{7f}"] {
            let report = RunReport {
                message: cut_message(&worst.repeat(10_000)),
                warning: Some(cut_warning(&worst.repeat(10_000))),
                run_id: "x".repeat(200),
                ..RunReport::default()
            };
            assert!(serde_json::to_string(&report).unwrap().len() < 4096);
        }
    }

    #[test]
    fn a_report_of_all_blocks_with_the_longest_messages_fits_a_termination_message() {
        let block = BlockCheck {
            block: "schemaRegistry".to_owned(),
            reason: Some("RegistryUnreachable".to_owned()),
            latency_milliseconds: Some(60_000),
            tls_version: Some("TLS 1.3".to_owned()),
            certificate_not_after: Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH)),
            server_version: Some("16.4 (Debian 16.4-1.pgdg120+2)".to_owned()),
            ..BlockCheck::default()
        };
        for worst in ["\"", "\u{1}", "\u{7f}"] {
            let report = ConnectionReport {
                blocks: vec![block.clone().with_message(&worst.repeat(10_000)); 5],
                ..ConnectionReport::default()
            };
            assert!(serde_json::to_string(&report).unwrap().len() < 4096);
        }
    }
}

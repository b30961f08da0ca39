//! What a pod tells the operator: a termination message (JSON, under 4 KB) and a worker's `/status`.

use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Interval, RunKind};

/// The most bytes of a message that a report carries: Kubernetes cuts a termination message at 4096 bytes, JSON and all.
const MESSAGE_LIMIT: usize = 1024;

/// Exit codes of the Jobs' programs.
pub mod exit {
    /// Done.
    pub const DONE: u8 = 0;
    /// Worth trying again.
    pub const RETRY: u8 = 1;
    /// The configuration is wrong: trying again without a change is useless.
    pub const CONFIGURATION: u8 = 2;
}

/// Where a container leaves its termination message: Kubernetes' default path.
pub const TERMINATION_LOG: &str = "/dev/termination-log";

/// A worker's reason where the topic is not there: the operator doubts its own word of the topic then.
pub const TOPIC_MISSING: &str = "TopicMissing";

/// The port of a worker's `/livez`, `/readyz`, `/metrics` and `/status`.
pub const WORKER_PORT: u16 = 8080;

/// How a run of `ingest-job` ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RunReport {
    /// The run's id in the ledger.
    pub run_id: String,
    /// The time it was scheduled for; absent for a manual run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduled_at: Option<Timestamp>,
    /// Why it happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<RunKind>,
    /// Its data interval; absent where the schedule has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Interval>,
    /// How often the run was tried, this time included; 0 where the ledger could not be opened.
    pub attempt: i32,
    /// When this attempt started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// A CamelCase word for how it ended, such as `Completed`, `AlreadyDone`, `SourceFailed`.
    pub reason: String,
    /// A sentence for how it ended.
    pub message: String,
    /// Requests that were answered with a page.
    pub pages: i64,
    /// Items the source gave.
    pub items: i64,
    /// Their bytes.
    pub bytes: i64,
    /// Record versions landed: new records and changed ones.
    pub landed: i64,
    /// Record versions published, those of interrupted runs included.
    pub published: i64,
    /// Items refused.
    pub rejected: i64,
    /// Record versions ever landed by this pipeline, from the ledger; absent where the ledger could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_fetched: Option<i64>,
}

/// How `stream-worker apply-schema` ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SchemaReport {
    /// A CamelCase word for how it ended: `Applied`, or why not.
    pub reason: String,
    /// A sentence for how it ended.
    pub message: String,
    /// Whether the topic is there and as wanted; absent when that was not reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic_ready: Option<bool>,
    /// How many partitions the topic has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitions: Option<i32>,
    /// The registry's id of the schema.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema_id: Option<i32>,
}

/// How `stream-worker verify-drained` ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DrainReport {
    /// A CamelCase word for how it ended: `Drained`, or why not.
    pub reason: String,
    /// A sentence for how it ended.
    pub message: String,
    /// How many partitions the topic has.
    pub partitions: i32,
    /// The offsets that the group has committed, by partition; of a topic with many partitions, the first ones.
    pub offsets: Vec<(i32, i64)>,
    /// Messages on the topic that are not stored.
    pub lag: i64,
}

/// How `stream-worker delete-data` ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeletionReport {
    /// A CamelCase word for how it ended: `Deleted`, or why not.
    pub reason: String,
    /// A sentence for how it ended.
    pub message: String,
}

/// A worker's `/status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkerReport {
    /// Whether it consumes and stores.
    pub ready: bool,
    /// A CamelCase word for why it does not; empty when ready.
    pub reason: String,
    /// A sentence for why it does not; empty when ready.
    pub message: String,
    /// How many partitions the topic has; 0 while unknown.
    pub topic_partitions: i32,
    /// The partitions this worker owns.
    pub partitions: Vec<PartitionReport>,
    /// Totals of the whole pipeline, from PostgreSQL; absent until read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub totals: Option<StoredTotals>,
    /// When offsets were last committed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_commit_at: Option<Timestamp>,
    /// Records stored a second, over the last minute.
    pub stored_per_second: f64,
}

/// One partition of a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PartitionReport {
    /// Its number.
    pub partition: i32,
    /// The next offset to store.
    pub next_offset: i64,
    /// The offset behind the last message, listed at the broker; absent until it answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_offset: Option<i64>,
    /// The distance of the two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag: Option<i64>,
    /// Every message that was written before is stored; absent until one was stored or the end was reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stored_through: Option<Timestamp>,
}

/// Totals of the whole pipeline.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StoredTotals {
    /// Topic offsets acknowledged by every sink.
    pub stored: i64,
    /// Messages sent to the dead-letter topic.
    pub dead_lettered: i64,
    /// Items that runs were given.
    pub items: i64,
    /// Their bytes.
    pub bytes: i64,
    /// Record versions published.
    pub published: i64,
    /// Items that are no records, by what is wrong.
    pub rejects: Vec<RejectTotal>,
}

/// How many items are no records for the same reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RejectTotal {
    /// The field at fault; empty where it is the item as a whole.
    pub field: String,
    /// A CamelCase word for what is wrong.
    pub class: String,
    /// How many, ever.
    pub items: i64,
}

/// A message cut so that the report that carries it stays a valid termination message. Control characters, which JSON writes
/// as six, become spaces.
pub fn cut_message(message: &str) -> String {
    let message: String = message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if message.len() <= MESSAGE_LIMIT {
        return message;
    }
    let end = (0..=MESSAGE_LIMIT).rev().find(|&i| message.is_char_boundary(i)).unwrap_or(0);
    format!("{}…", &message[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_with_the_longest_message_fits_a_termination_message() {
        for worst in ["\"", "\u{1}", "\u{7f}"] {
            let report = RunReport {
                message: cut_message(&worst.repeat(10_000)),
                run_id: "x".repeat(200),
                ..RunReport::default()
            };
            assert!(serde_json::to_string(&report).unwrap().len() < 4096);
        }
    }

    #[test]
    fn a_cut_message_stays_text() {
        assert!(cut_message(&"日本".repeat(1000)).ends_with('…'));
    }
}

//! What the operator says of a pipeline.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Interval, RunKind};

/// What the operator says of a pipeline.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UserPipelineStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What is so and what is not; see the guide to status and events.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The version that the pods run, and the operator's own where that is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<VersionStatus>,
    /// The workers' label selector, for `kubectl scale` and autoscalers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// The topic in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// What was last applied by a schema Job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<SchemaStatus>,
    /// Whether the workers of a suspended pipeline have left everything in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain: Option<DrainStatus>,
    /// What became of `spec.deletionPolicy: Delete`, once the pipeline is being deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion: Option<DeletionStatus>,
    /// The worker Deployment's counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<WorkersStatus>,
    /// How far the schedule is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleStatus>,
    /// What became of `spec.runNow`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_now: Option<RunNowStatus>,
    /// The run that ended last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_run: Option<Run>,
    /// The runs that ended last, the newest first, ten at most; all of them are in the ledger.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub runs: Vec<Run>,
    /// When the last run that has succeeded ended, and the interval up to which the schedule's data is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_success: Option<LastSuccess>,
    /// What the pipeline did, ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub totals: Option<Totals>,
    /// Records on the topic that the workers have not stored; absent while a partition has no worker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag: Option<i64>,
    /// When `totals` and `lag` were last measured to have changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measured_at: Option<Time>,
}

/// Which version a pipeline's pods run.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VersionStatus {
    /// The one that is wanted: `spec.image.version`, or the operator's.
    pub wanted: String,
    /// The operator's, where `spec.image.version` pins another one: what pods would run without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub available: Option<String>,
}

/// What was last applied by a schema Job.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SchemaStatus {
    /// The hash of what was applied; a schema Job is needed while the wanted hash differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applied_hash: Option<String>,
    /// When it was applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applied_at: Option<Time>,
    /// The registry's id of the schema.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema_id: Option<i32>,
    /// How many partitions the topic has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitions: Option<i32>,
    /// The hash that the attempts below were for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempted_hash: Option<String>,
    /// How many schema Jobs have failed for it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failed_attempts: i32,
    /// When the last of them failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_at: Option<Time>,
    /// Why: the reason it gave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_reason: Option<String>,
    /// Why: its message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_message: Option<String>,
}

/// Whether the workers of a suspended pipeline have left everything in order.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DrainStatus {
    /// Since when the pipeline is to be suspended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// When a drain Job has found the consumer group empty and all that is stored committed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified_at: Option<Time>,
    /// What it has told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The offsets that the group has committed, by partition.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub offsets: BTreeMap<String, i64>,
    /// Messages on the topic that were not stored.
    #[serde(default)]
    pub lag: i64,
    /// How many drain Jobs have failed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failed_attempts: i32,
    /// When the last of them failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_at: Option<Time>,
    /// Why: the reason it gave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_reason: Option<String>,
}

/// What became of `spec.deletionPolicy: Delete`.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeletionStatus {
    /// When a deletion Job had deleted all there was to delete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub done_at: Option<Time>,
    /// What the last deletion Job has told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// How many deletion Jobs have failed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failed_attempts: i32,
    /// When the last of them failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_at: Option<Time>,
    /// Why: the reason it gave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_reason: Option<String>,
}

/// The worker Deployment's counts.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkersStatus {
    /// How many there are.
    pub replicas: i32,
    /// How many are ready.
    pub ready: i32,
    /// Ready and wanted, as `2/2`.
    pub summary: String,
}

/// How far the schedule is.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleStatus {
    /// When the next run is due; absent while none is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_run_at: Option<Time>,
    /// Nothing is left to be started for intervals that end up to then: each was run, or given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settled_until: Option<Time>,
    /// How many intervals that are complete have not been run yet, as far as they are to be; at most 1000 are counted.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub backlog: i32,
    /// How many runs in a row have failed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub consecutive_failures: i32,
    /// What they ran by: failures of an older spec do not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failures_of: Option<String>,
}

/// What became of `spec.runNow`.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunNowStatus {
    /// The request.
    pub nonce: String,
    /// The Job, for `kubectl logs job/…`.
    pub job: String,
    /// `Succeeded` or `Failed`, when it has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
}

/// The last success.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastSuccess {
    /// When a run last ended well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// The latest end of an interval that was run with success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval_end: Option<Time>,
}

/// A run that has ended.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// The Job, for `kubectl logs job/…`.
    pub job: String,
    /// The run's id in the ledger.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// Why it happened.
    #[serde(default)]
    pub kind: RunKind,
    /// Its data interval; absent where the schedule has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Interval>,
    /// How often it was tried, in all.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempt: i32,
    /// The time it was scheduled for; absent for a manual run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduled_at: Option<Time>,
    /// When it started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// `Succeeded` or `Failed`.
    pub outcome: String,
    /// A word for how it ended.
    pub reason: String,
    /// A sentence for how it ended.
    pub message: String,
    /// Record versions that this run landed.
    #[serde(default)]
    pub landed: i64,
    /// Record versions that this run published, those left by an interrupted run included.
    #[serde(default)]
    pub published: i64,
    /// Items that this run refused; they are kept in `userpipeline.rejects`.
    #[serde(default)]
    pub rejected: i64,
}

/// What the pipeline did, ever.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// Record versions landed.
    #[serde(default)]
    pub fetched: i64,
    /// Topic offsets acknowledged by every sink.
    #[serde(default)]
    pub stored: i64,
    /// Messages sent to the dead-letter topic.
    #[serde(default)]
    pub dead_lettered: i64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde hands a reference
const fn is_zero(n: &i32) -> bool {
    *n == 0
}

//! Runs in the status of a pipeline.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Interval, RunKind, lists::without_default};

/// Result of `spec.runNow`.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunNowStatus {
    /// Nonce of the request.
    pub nonce: String,
    /// Name of the Job, for `kubectl logs job/…`.
    pub job: String,
    /// `Succeeded` or `Failed`, once it has ended.
    #[schemars(with = "Option<String>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<RunOutcome>,
    /// Time at which it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
}

/// The last success.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastSuccess {
    /// Time at which a run last succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// Latest end of an interval that ran successfully.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval_end: Option<Time>,
}

/// How a run ended. In the CRD it is plain text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunOutcome {
    /// The run fetched, landed and published its items, or there was nothing to do.
    Succeeded,
    /// All attempts failed.
    #[default]
    Failed,
}

impl RunOutcome {
    /// As in the status and in the ledger.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
        }
    }
}

/// A run that has ended.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// Name of the Job, for `kubectl logs job/…`.
    pub job: String,
    /// Id of the run in the ledger.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// Why the run happened.
    #[serde(default)]
    #[schemars(transform = without_default)]
    pub kind: RunKind,
    /// Data interval of the run. Absent if the schedule has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Interval>,
    /// Number of attempts.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempt: i32,
    /// Time for which the run was scheduled. Absent for a manual run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduled_at: Option<Time>,
    /// Time at which the run started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// Time at which the run ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// `Succeeded` or `Failed`.
    #[schemars(with = "String")]
    pub outcome: RunOutcome,
    /// Reason for the outcome, in CamelCase.
    pub reason: String,
    /// Message for the outcome.
    pub message: String,
    /// Why data may be missing although the run succeeded, and the spec that would fetch it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    /// Number of record versions that this run landed.
    #[serde(default)]
    #[schemars(transform = without_default)]
    pub landed: i64,
    /// Number of these record versions that do not pass `spec.record.where`.
    #[serde(default, skip_serializing_if = "is_zero_count")]
    pub filtered: i64,
    /// Number of record versions that this run published, including those left by an interrupted run.
    #[serde(default)]
    #[schemars(transform = without_default)]
    pub published: i64,
    /// Number of items that this run rejected. They are in `userpipeline.rejects`.
    #[serde(default)]
    #[schemars(transform = without_default)]
    pub rejected: i64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde hands a reference
const fn is_zero_count(n: &i64) -> bool {
    *n == 0
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde hands a reference
const fn is_zero(n: &i32) -> bool {
    *n == 0
}

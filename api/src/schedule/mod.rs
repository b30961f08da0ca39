//! When runs start.

mod cron;
mod interval;
mod ticks;

use std::collections::BTreeMap;

pub use cron::Cron;
pub use interval::{DataInterval, Interval, first_after_start};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
pub use ticks::{Ticks, zone};

/// When runs start. Fields with the names of a CronJob's fields have the same meaning.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Schedule {
    /// Schedule in five fields, as in a CronJob: minute, hour, day of month, month, day of week. Or a macro
    /// such as @daily.
    #[schemars(length(min = 1, max = 200))]
    #[x_kube(validation = Rule::new("self.contains('TZ=') || self.matches('(?i)^\\\\s*(@(yearly|annually|monthly|weekly|daily|midnight|hourly)|([*?]|0*[0-5]?[0-9](-0*[0-5]?[0-9])?)(/0*[1-9][0-9]{0,2})?(,([*?]|0*[0-5]?[0-9](-0*[0-5]?[0-9])?)(/0*[1-9][0-9]{0,2})?)*\\\\s+([*?]|0*([01]?[0-9]|2[0-3])(-0*([01]?[0-9]|2[0-3]))?)(/0*[1-9][0-9]{0,2})?(,([*?]|0*([01]?[0-9]|2[0-3])(-0*([01]?[0-9]|2[0-3]))?)(/0*[1-9][0-9]{0,2})?)*\\\\s+([*?]|0*([1-9]|[12][0-9]|3[01])(-0*([1-9]|[12][0-9]|3[01]))?)(/0*[1-9][0-9]{0,2})?(,([*?]|0*([1-9]|[12][0-9]|3[01])(-0*([1-9]|[12][0-9]|3[01]))?)(/0*[1-9][0-9]{0,2})?)*\\\\s+([*?]|(0*([1-9]|1[0-2])|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)(-(0*([1-9]|1[0-2])|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec))?)(/0*[1-9][0-9]{0,2})?(,([*?]|(0*([1-9]|1[0-2])|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)(-(0*([1-9]|1[0-2])|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec))?)(/0*[1-9][0-9]{0,2})?)*\\\\s+([*?]|(0*[0-6]|sun|mon|tue|wed|thu|fri|sat)(-(0*[0-6]|sun|mon|tue|wed|thu|fri|sat))?)(/0*[1-9][0-9]{0,2})?(,([*?]|(0*[0-6]|sun|mon|tue|wed|thu|fri|sat)(-(0*[0-6]|sun|mon|tue|wed|thu|fri|sat))?)(/0*[1-9][0-9]{0,2})?)*)\\\\s*$')")
        .message("spec.schedule.cron must have five fields within their ranges (minute 0-59, hour 0-23, day of month 1-31, month 1-12 or jan-dec, day of week 0-6 or sun-sat), or be a macro such as @daily"))]
    #[x_kube(validation = Rule::new("!self.contains('TZ=')").message("spec.schedule.cron must not contain a time zone: use spec.schedule.timeZone"))]
    pub cron: String,
    /// Time zone of `cron`: a name of the IANA database, such as Europe/Berlin.
    #[serde(default = "utc")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$')")
        .message("spec.schedule.timeZone must be a name of the IANA database, such as Etc/UTC or Europe/Berlin"))]
    pub time_zone: String,
    /// What happens if a run is due while another is active. With `catchUp`, `maxActiveRuns` applies instead.
    #[serde(default)]
    pub concurrency_policy: ConcurrencyPolicy,
    /// The first data interval begins at the first tick at or after this time. Earlier intervals do not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self < timestamp('9999-01-01T00:00:00Z')").message("spec.schedule.startAt must be before the year 9999"))]
    pub start_at: Option<Time>,
    /// What happens to missed runs.
    #[serde(default)]
    pub catch_up: CatchUp,
    /// Values for `{{arguments.NAME}}` in the source's url, query, headers and body. A requested run may
    /// override them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "ArgumentsSchema")]
    pub arguments: BTreeMap<String, String>,
    /// Number of consecutive failed runs after which the schedule pauses. It resumes when a requested run
    /// succeeds, or the spec of schedule or source changes. Default: it never pauses.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub pause_after_failures: Option<i32>,
    /// How late, in seconds, a run may start; after that it is missed. It does not apply to `catchUp`.
    #[serde(default = "starting_deadline")]
    #[schemars(range(min = 10, max = 86_400))]
    pub starting_deadline_seconds: i64,
    /// Number of retries of a failed run.
    #[serde(default = "backoff_limit")]
    #[schemars(range(min = 0, max = 100))]
    pub backoff_limit: i32,
    /// Limit, in seconds, of a run with all its retries.
    #[serde(default = "active_deadline")]
    #[schemars(range(min = 10, max = 604_800))]
    pub active_deadline_seconds: i64,
    /// Number of Jobs of successful runs that are kept for their logs. At least one, because it reports how
    /// the run ended.
    #[serde(default = "history")]
    #[schemars(range(min = 1, max = 100))]
    pub successful_jobs_history_limit: i32,
    /// Number of Jobs of failed runs that are kept for their logs. At least one, because it reports how the
    /// run ended.
    #[serde(default = "history")]
    #[schemars(range(min = 1, max = 100))]
    pub failed_jobs_history_limit: i32,
}

/// What happens to missed runs: while the pipeline was suspended, or the operator or the cluster was down.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CatchUp {
    /// Whether every missed interval runs, once each and oldest first. Otherwise only the newest may still
    /// run, within `startingDeadlineSeconds`.
    #[serde(default)]
    pub enabled: bool,
    /// Number of active runs of the schedule at a time.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 100))]
    pub max_active_runs: i32,
    /// Number of missed intervals that run, the newest ones. Older ones are skipped. Default: all run.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub limit: Option<i32>,
}

impl Default for CatchUp {
    fn default() -> Self {
        Self {
            enabled: false,
            max_active_runs: one(),
            limit: None,
        }
    }
}

/// A requested run: once for each nonce, however often the resource is applied.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunNow {
    /// Identifies the request. A new value requests another run. A nonce that has succeeded never runs again.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$')")
        .message("spec.runNow.nonce must contain only letters, digits, '-', '_' and '.', and begin and end with a letter or digit"))]
    pub nonce: String,
    /// Arguments that override `spec.schedule.arguments`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "ArgumentsSchema")]
    pub arguments: BTreeMap<String, String>,
    /// Data interval of the run. Default: the last complete interval of the schedule.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self.start < self.end && self.end < timestamp('9999-01-01T00:00:00Z')")
        .message("spec.runNow.interval must start before it ends, and end before the year 9999"))]
    pub interval: Option<Interval>,
}

/// Why a run happens.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunKind {
    /// The CronJob started it at its tick.
    #[default]
    Scheduled,
    /// Catch-up started it for a tick.
    CatchUp,
    /// A `UserPipelineBackfill` requested it.
    Backfill,
    /// `spec.runNow` requested it, or its Job was created by hand.
    Manual,
}

impl RunKind {
    /// As in the resource, the ledger, labels and arguments.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "Scheduled",
            Self::CatchUp => "CatchUp",
            Self::Backfill => "Backfill",
            Self::Manual => "Manual",
        }
    }
}

impl std::fmt::Display for RunKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for RunKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Scheduled, Self::CatchUp, Self::Backfill, Self::Manual]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| format!("`{text}` is no kind of run"))
    }
}

/// Names and values of arguments, of limited number and length.
#[derive(JsonSchema)]
#[schemars(transparent, extend("maxProperties" = 32))]
pub(crate) struct ArgumentsSchema(#[allow(dead_code)] BTreeMap<String, ArgumentValue>);

#[derive(JsonSchema)]
#[schemars(transparent)]
struct ArgumentValue(
    #[schemars(length(max = 1024))]
    #[allow(dead_code)]
    String,
);

/// What happens if a run is due while another is active.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConcurrencyPolicy {
    /// Both run.
    Allow,
    /// The new run is skipped.
    #[default]
    Forbid,
    /// The active run is stopped.
    Replace,
}

pub fn utc() -> String {
    "Etc/UTC".to_owned()
}

const fn starting_deadline() -> i64 {
    200
}

const fn backoff_limit() -> i32 {
    2
}

const fn active_deadline() -> i64 {
    600
}

const fn one() -> i32 {
    1
}

const fn history() -> i32 {
    3
}

//! When runs happen.

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

/// When records are fetched. The fields mean what they mean in a `CronJob`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Schedule {
    /// Five fields, as a CronJob takes them: minute, hour, day of month, month, day of week; or a macro such as @daily.
    #[schemars(length(min = 1, max = 200))]
    #[x_kube(validation = Rule::new("!self.contains('TZ=')").message("spec.schedule.cron must not carry a time zone; use spec.schedule.timeZone"))]
    pub cron: String,
    /// The zone in which `cron` is read: a name of the IANA database, such as Europe/Berlin.
    #[serde(default = "utc")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: String,
    /// What happens when a run is due while another is under way. With `catchUp`, its `maxActiveRuns` counts instead.
    #[serde(default)]
    pub concurrency_policy: ConcurrencyPolicy,
    /// Where the first data interval begins: at the first tick from then on. Runs of earlier intervals do not happen.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self < timestamp('9999-01-01T00:00:00Z')").message("spec.schedule.startAt must be before the year 9999"))]
    pub start_at: Option<Time>,
    /// What happens to runs that were missed.
    #[serde(default)]
    pub catch_up: CatchUp,
    /// Values for `{{arguments.NAME}}` in the source's url, query, headers and body; a run that is asked for may give others.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "ArgumentsSchema")]
    pub arguments: BTreeMap<String, String>,
    /// After so many runs in a row have failed, no more are started by schedule, until one that is asked for succeeds or
    /// the spec of schedule or source is changed. Never, when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub pause_after_failures: Option<i32>,
    /// How late, in seconds, a run may still start; later, it is missed. With `catchUp` no run is too late.
    #[serde(default = "starting_deadline")]
    #[schemars(range(min = 10, max = 86_400))]
    pub starting_deadline_seconds: i64,
    /// How often a failed run is tried again.
    #[serde(default = "backoff_limit")]
    #[schemars(range(min = 0, max = 100))]
    pub backoff_limit: i32,
    /// How long, in seconds, a run and its retries may take in all.
    #[serde(default = "active_deadline")]
    #[schemars(range(min = 10, max = 604_800))]
    pub active_deadline_seconds: i64,
    /// How many Jobs of successful runs are kept for their logs; at least one, which says how the run ended.
    #[serde(default = "history")]
    #[schemars(range(min = 1, max = 100))]
    pub successful_jobs_history_limit: i32,
    /// How many Jobs of failed runs are kept for their logs; at least one, which says how the run ended.
    #[serde(default = "history")]
    #[schemars(range(min = 1, max = 100))]
    pub failed_jobs_history_limit: i32,
}

/// What happens to runs that were missed: while the pipeline was suspended, or the operator or the cluster was down.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CatchUp {
    /// Whether every missed interval is run, once each and the oldest first. Without it only the newest may still be run,
    /// within `startingDeadlineSeconds`.
    #[serde(default)]
    pub enabled: bool,
    /// How many runs of the schedule may be under way at a time.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 100))]
    pub max_active_runs: i32,
    /// At most so many missed intervals are run, the newest; those before them are given up. All, when not given.
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

/// A run that is asked for: once for each nonce, however often the resource is applied.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunNow {
    /// Names the request: another nonce asks for another run; one that has succeeded is never run again.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$')")
        .message("spec.runNow.nonce has letters, digits, '-', '_' and '.', and begins and ends with a letter or digit"))]
    pub nonce: String,
    /// Other values than `spec.schedule.arguments` has.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "ArgumentsSchema")]
    pub arguments: BTreeMap<String, String>,
    /// The data interval of the run; the schedule's last one that is complete, when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self.start < self.end && self.end < timestamp('9999-01-01T00:00:00Z')")
        .message("spec.runNow.interval must start before it ends, before the year 9999"))]
    pub interval: Option<Interval>,
}

/// Why a run happens.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunKind {
    /// It was due.
    #[default]
    Scheduled,
    /// It was due, and is made up for.
    CatchUp,
    /// A `UserPipelineBackfill` wants it.
    Backfill,
    /// Somebody has asked for it: by `spec.runNow`, or by making a Job.
    Manual,
}

impl RunKind {
    /// As it is written in the resource, the ledger, labels and arguments.
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

/// Names and values of arguments, bounded.
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

/// What happens when a run is due while another is under way.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConcurrencyPolicy {
    /// Both run.
    Allow,
    /// The new one is skipped.
    #[default]
    Forbid,
    /// The old one is ended.
    Replace,
}

fn utc() -> String {
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

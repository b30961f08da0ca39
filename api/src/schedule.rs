//! When runs happen.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    /// What happens when a run is due while another is under way.
    #[serde(default)]
    pub concurrency_policy: ConcurrencyPolicy,
    /// How late, in seconds, a run may still start; later, it is missed.
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

const fn history() -> i32 {
    3
}

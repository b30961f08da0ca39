//! Since when the present schedule is in effect: no run was due by it earlier. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;
use userpipeline_api::{Schedule, UserPipelineStatus, condition, names};

use crate::pipeline::model::whole_seconds;

pub struct EffectiveInput<'a> {
    pub schedule: &'a Schedule,
    pub suspended: bool,
    /// Of the spec.
    pub generation: Option<i64>,
    pub recorded: &'a UserPipelineStatus,
}

/// The hash of the schedule, and since when it is in effect; `None`: since the pipeline was created.
pub fn since(input: &EffectiveInput<'_>, now: Timestamp) -> (String, Option<Time>) {
    let hash = hash(input);
    let recorded = input.recorded.schedule.as_ref();
    let since = match recorded.and_then(|status| status.hash.as_ref()) {
        Some(recorded_hash) if *recorded_hash == hash => recorded.and_then(|status| status.effective_since.clone()),
        None if was_evaluated(input) => None,
        _ => Some(whole_seconds(now)),
    };
    (hash, since)
}

/// The deadlines are part of it: with a shorter one, an active run would be overdue at once. So is the suspension: nothing runs
/// meanwhile.
fn hash(input: &EffectiveInput<'_>) -> String {
    let schedule = input.schedule;
    let text = json!([
        schedule.cron,
        schedule.time_zone,
        schedule.start_at,
        schedule.starting_deadline_seconds,
        schedule.active_deadline_seconds,
        input.suspended,
    ]);
    names::hash(&text.to_string())
}

/// Whether an operator that recorded no hash evaluated this spec. Then its result stays: an upgrade neither raises an alarm nor
/// ends one.
fn was_evaluated(input: &EffectiveInput<'_>) -> bool {
    input.recorded.conditions.iter().any(|condition| {
        condition.type_ == condition::DATA_FRESH
            && condition.status != "Unknown"
            && condition.observed_generation.is_some()
            && condition.observed_generation == input.generation
    })
}

//! `DataFresh`: whether the data is as recent as the schedule promises, and stored in every sink. Pure.

use std::time::Duration;

use jiff::Timestamp;
use userpipeline_api::{RunOutcome, Schedule, Ticks, UserPipeline, UserPipelineStatus, condition, first_after_start};

use super::verdict::Verdict;
use crate::pipeline::{model::elapsed, observe::Observed};

/// Workers have this long to store what a run published, and to report their progress again after a rollout, a scaling or a
/// restart.
const STORE_WITHIN: Duration = Duration::from_secs(60);

/// `before` is the previous status, `status` the new one. Messages name times instead of ages: an age would change the message at every reconcile.
pub fn fresh(
    pipeline: &UserPipeline,
    observed: &Observed,
    before: &UserPipelineStatus,
    status: &UserPipelineStatus,
    now: Timestamp,
) -> Verdict {
    if pipeline.spec.suspend {
        return Verdict::unknown("Suspended", "not evaluated while the pipeline is suspended");
    }
    let Some(schedule) = &pipeline.spec.schedule else {
        return external_data(observed, before, now);
    };
    let Ok(ticks) = Ticks::read(&schedule.cron, &schedule.time_zone) else {
        return Verdict::unknown("InvalidSpec", "spec.schedule cannot be read");
    };
    let since = effective_since(pipeline, status, now);
    if let Some(late) = late(schedule, &ticks, since, status, now) {
        return late;
    }
    let success = status.last_success.as_ref().and_then(|success| success.finished_at.as_ref());
    if success.is_none() {
        return not_due(schedule, &ticks, since, "");
    }
    let stored = stored(observed, before, status, now);
    // What was missed before the schedule changed raises no alarm, but does not become fresh by the change either.
    match reached(status) {
        Some(end) if stored.is_true() && ticks.before(since) > Some(end) && !was_fresh(before) => {
            not_due(schedule, &ticks, since, &format!("the data ends at {end}; "))
        }
        _ => stored,
    }
}

fn not_due(schedule: &Schedule, ticks: &Ticks, since: Timestamp, data_ends: &str) -> Verdict {
    let message = match first(schedule, ticks, since) {
        Some(first) => format!("{data_ends}the first run is due at {first}"),
        None => format!("{data_ends}spec.schedule.cron never matches a time"),
    };
    Verdict::unknown("NotDueYet", &message)
}

/// Since when the schedule is in effect. No run was due by it earlier.
fn effective_since(pipeline: &UserPipeline, status: &UserPipelineStatus, now: Timestamp) -> Timestamp {
    let created = || Some(pipeline.metadata.creation_timestamp.as_ref()?.0);
    changed_at(status).or_else(created).unwrap_or(now)
}

/// When the schedule last changed, or the pipeline was resumed.
fn changed_at(status: &UserPipelineStatus) -> Option<Timestamp> {
    Some(status.schedule.as_ref()?.effective_since.as_ref()?.0)
}

/// The end of the data.
fn reached(status: &UserPipelineStatus) -> Option<Timestamp> {
    Some(status.last_success.as_ref()?.interval_end.as_ref()?.0)
}

fn was_fresh(before: &UserPipelineStatus) -> bool {
    let mut conditions = before.conditions.iter();
    conditions.any(|c| c.type_ == condition::DATA_FRESH && c.status == "True")
}

/// While a partition has had no worker that reports its progress for less than a minute. Partitions change hands whenever a worker
/// starts or stops, so for a while nothing is concluded from silence. `started` is when the workers were last to start, if known:
/// after a resume, silence began long ago.
fn briefly_unknown(observed: &Observed, before: &UserPipelineStatus, started: Option<Timestamp>, now: Timestamp) -> Option<Verdict> {
    let silent_since = observed.progress_unknown_since?.max(started.unwrap_or(Timestamp::MIN));
    if elapsed(silent_since, now) >= STORE_WITHIN {
        return None;
    }
    let before = before.conditions.iter().find(|c| c.type_ == condition::DATA_FRESH);
    match before.map(|before| (before, before.status.as_str())) {
        Some((before, "True")) => Some(Verdict::from(before)),
        Some((_, "False")) => None,
        _ => Some(Verdict::unknown(
            "SinksUnknown",
            "waiting until every partition has a worker that reports its progress",
        )),
    }
}

/// With external producers: whether what they wrote is stored.
fn external_data(observed: &Observed, before: &UserPipelineStatus, now: Timestamp) -> Verdict {
    let Some(through) = observed.stored_through() else {
        return briefly_unknown(observed, before, None, now).unwrap_or_else(|| {
            Verdict::unknown(
                "SinksUnknown",
                "unknown: not every partition has a worker that reports its progress",
            )
        });
    };
    if elapsed(through, now) < STORE_WITHIN {
        Verdict::yes("Fresh", "records are stored in every sink within a minute")
    } else {
        Verdict::no(
            "SinksBehind",
            "records that were written to the topic more than a minute ago are not stored in every sink yet; see status.lag and WorkersReady",
        )
    }
}

/// The first tick of the schedule.
fn first(schedule: &Schedule, ticks: &Ticks, since: Timestamp) -> Option<Timestamp> {
    match &schedule.start_at {
        Some(start) => first_after_start(start.0, ticks).map(|first| if first > since { Some(first) } else { ticks.after(since) })?,
        None => ticks.after(since),
    }
}

/// Whether a run is overdue, or the last one failed.
fn late(schedule: &Schedule, ticks: &Ticks, since: Timestamp, status: &UserPipelineStatus, now: Timestamp) -> Option<Verdict> {
    let reached = reached(status);
    let data_ends = || {
        reached.map_or_else(
            || "no interval has been fetched yet".to_owned(),
            |at| format!("the data ends at {at}"),
        )
    };
    let failed = status.runs.iter().find(|run| {
        let end = run.interval.as_ref().map(|interval| interval.end.0);
        run.outcome == RunOutcome::Failed && run.scheduled_at.is_some() && end > reached
    });
    if let Some(run) = failed {
        return Some(Verdict::no(
            "RunFailed",
            &format!("{}: run {} failed: {}", data_ends(), run.job, run.message),
        ));
    }
    let allowed = schedule.starting_deadline_seconds + schedule.active_deadline_seconds;
    let promised = now.checked_sub(jiff::SignedDuration::from_secs(allowed)).ok()?;
    let due = ticks.before(promised)?;
    if due < first(schedule, ticks, since)? || reached >= Some(due) {
        return None;
    }
    Some(Verdict::no(
        "RunOverdue",
        &format!(
            "{}; the run due at {due} did not end within {allowed} s (spec.schedule.startingDeadlineSeconds and activeDeadlineSeconds)",
            data_ends()
        ),
    ))
}

/// Whether the records of successful runs are in every sink.
fn stored(observed: &Observed, before: &UserPipelineStatus, status: &UserPipelineStatus, now: Timestamp) -> Verdict {
    let success = status.last_success.clone().unwrap_or_default();
    let (Some(last), end) = (success.finished_at.map(|at| at.0), success.interval_end.map(|at| at.0)) else {
        return Verdict::unknown("NotDueYet", "no run has ended yet");
    };
    let fetched = end.map_or_else(String::new, |end| format!("data up to {end} is fetched"));
    let through = observed.stored_through();
    // Records of the newest run may still be on their way; then the run before it counts.
    let is_due = |at: &Timestamp| elapsed(*at, now) >= STORE_WITHIN;
    let succeeded = status.runs.iter().filter(|run| run.outcome == RunOutcome::Succeeded);
    let settled = succeeded
        .filter_map(|run| run.finished_at.as_ref())
        .map(|at| at.0)
        .chain([last])
        .filter(is_due)
        .max();
    let storing = || Verdict::unknown("Storing", &format!("{fetched}; the workers are storing it"));
    match (through, settled) {
        (Some(through), _) if through >= last => Verdict::yes("Fresh", &format!("{fetched} and stored in every sink")),
        (Some(through), Some(settled)) if through >= settled => Verdict::yes("Fresh", &format!("{fetched} and stored in every sink")),
        (None, None) => briefly_unknown(observed, before, changed_at(status), now).unwrap_or_else(storing),
        (Some(_), None) => storing(),
        (None, Some(settled)) => briefly_unknown(observed, before, changed_at(status), now).unwrap_or_else(|| {
            Verdict::no(
                "SinksUnknown",
                &format!(
                    "{fetched}, but it is unknown whether records published until {settled} are stored: not every partition has a worker that reports its progress"
                ),
            )
        }),
        (Some(_), Some(settled)) => Verdict::no(
            "SinksBehind",
            &format!("{fetched}, but records published until {settled} are not stored in every sink yet; see status.lag and WorkersReady"),
        ),
    }
}

#[cfg(test)]
mod tests;

//! Which runs are due, and whether the operator or the CronJob starts them. Pure.
//!
//! There is one scheduler at a time: the CronJob without catch-up; with it the operator, and the CronJob is suspended. Both use
//! the same name for the Job of a tick, so there is at most one, and the ledger makes a second success a no-op. The status records
//! up to when intervals are settled; after that, the Jobs are the record, so they are deleted only when the status has them.

mod effective;
mod history;

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use kube::ResourceExt;
use userpipeline_api::{DataInterval, RunKind, RunNow, RunNowStatus, Schedule, ScheduleStatus, Ticks, UserPipelineStatus, names};

use self::effective::EffectiveInput;
pub use self::history::History;
use crate::pipeline::{
    model::{labels, whole_seconds},
    observe::RunJob,
};

/// Due intervals are counted up to this number.
const COUNTED: i32 = 1000;
/// Runs are started at most so many intervals after the last settled one: while one run hangs, the list of Jobs must not grow
/// without a bound.
const AHEAD: usize = 200;
/// Added to the time of the next tick, so that the clock is past it.
const PAST_TICK: Duration = Duration::from_millis(500);

pub struct ScheduleInput<'a> {
    pub schedule: &'a Schedule,
    pub ticks: &'a Ticks,
    /// The requested run (`spec.runNow`).
    pub run_now: Option<&'a RunNow>,
    /// `spec.suspend`: no run is started.
    pub suspended: bool,
    /// When the pipeline was created.
    pub created_at: Timestamp,
    /// Of the spec.
    pub generation: Option<i64>,
    /// The name of the CronJob.
    pub cron_job: &'a str,
    /// The last tick for which the CronJob started a run.
    pub last_tick_of_cron_job: Option<Timestamp>,
    pub recorded: &'a UserPipelineStatus,
    /// The ended runs, the observed ones included.
    pub history: &'a History,
    pub runs: &'a [RunJob],
}

/// A run to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRun {
    /// The name of its Job; without one, the name is derived from the nonce.
    pub job: Option<String>,
    /// The run's id in the ledger.
    pub run_id: String,
    pub kind: RunKind,
    /// Without one, ingest-job uses the last complete interval.
    pub interval: Option<DataInterval>,
    /// Override the arguments of the schedule.
    pub arguments: BTreeMap<String, String>,
    /// `spec.runNow.nonce` of a requested run.
    pub nonce: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// To be written to the status.
    pub status: ScheduleStatus,
    /// The state of the requested run, for the status.
    pub run_now: Option<RunNowStatus>,
    /// The CronJob must not start runs.
    pub suspend_cron_job: bool,
    /// Too many runs failed in a row.
    pub paused: bool,
    pub create: Vec<NewRun>,
    /// Names of the operator's Jobs that are no longer needed.
    pub delete: Vec<String>,
    /// When to reconcile again, if no event comes first.
    pub requeue: Option<Duration>,
}

/// Decides which runs to start.
pub fn decide(input: &ScheduleInput<'_>, now: Timestamp) -> Decision {
    let ScheduleInput { schedule, history, .. } = input;
    let paused = schedule
        .pause_after_failures
        .is_some_and(|limit| history.consecutive_failures >= limit);
    let is_idle = input.suspended || paused;
    let (hash, effective_since) = effective::since(
        &EffectiveInput {
            schedule,
            suspended: input.suspended,
            generation: input.generation,
            recorded: input.recorded,
        },
        now,
    );
    let mut decision = Decision {
        status: ScheduleStatus {
            consecutive_failures: history.consecutive_failures,
            failures_of: history.failures_of.clone(),
            hash: Some(hash),
            effective_since,
            ..ScheduleStatus::default()
        },
        suspend_cron_job: is_idle || schedule.catch_up.enabled,
        paused,
        ..Decision::default()
    };
    let (mut settled, begins) = settled(input);
    // A CronJob has no start time.
    decision.suspend_cron_job |= begins.is_some_and(|begins| now < begins);
    if schedule.catch_up.enabled {
        settled = catch_up(input, settled, is_idle, now, &mut decision);
    }
    decision.status.settled_until = settled.map(whole_seconds);
    if !is_idle {
        let next = next(input, begins, now);
        decision.status.next_run_at = next.map(whole_seconds);
        let awaited = begins.filter(|begins| now < *begins).or(next);
        decision.requeue = awaited
            .and_then(|at| Duration::try_from(at.duration_since(now)).ok())
            .map(|wait| wait + PAST_TICK);
    }
    run_now(input, &mut decision);
    decision.delete = outdated(input);
    decision
}

/// Up to when all intervals are settled; and, with `startAt`, when the first interval begins. A schedule without any tick has
/// neither.
fn settled(input: &ScheduleInput<'_>) -> (Option<Timestamp>, Option<Timestamp>) {
    let begins = match &input.schedule.start_at {
        // The tick at which the first interval begins also ends an interval, which is not run.
        Some(start) => start
            .0
            .checked_sub(Duration::from_nanos(1))
            .ok()
            .and_then(|before| input.ticks.after(before)),
        None => None,
    };
    let recorded = input
        .recorded
        .schedule
        .as_ref()
        .and_then(|status| status.settled_until.as_ref())
        .map(|at| at.0);
    let settled = match (recorded, &input.schedule.start_at) {
        // A later `startAt` takes effect. An earlier one does not rerun settled intervals: that needs a back-fill.
        (Some(recorded), _) => Some(recorded.max(begins.unwrap_or(recorded))),
        (None, Some(_)) => begins,
        (None, None) => Some(input.created_at),
    };
    (settled.max(input.last_tick_of_cron_job), begins)
}

fn next(input: &ScheduleInput<'_>, begins: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
    match (&input.schedule.start_at, begins) {
        (None, _) => input.ticks.after(now),
        (Some(_), Some(begins)) => input.ticks.after(begins.max(now)),
        (Some(_), None) => None,
    }
}

/// Starts a run for every tick that is due and not settled, the oldest first. Returns up to when intervals are settled now.
fn catch_up(
    input: &ScheduleInput<'_>,
    settled: Option<Timestamp>,
    is_idle: bool,
    now: Timestamp,
    decision: &mut Decision,
) -> Option<Timestamp> {
    let mut settled = settled?;
    let due = |after: Timestamp| input.ticks.after(after).filter(|tick| *tick <= now);
    while let Some(tick) = due(settled)
        && has_ended(input, tick)
    {
        settled = tick;
    }
    if is_idle {
        return Some(settled);
    }
    if let Some(limit) = input.schedule.catch_up.limit {
        settled = settled.max(skipped(input.ticks, settled, limit, now));
    }
    let mut active = input.runs.iter().filter(|run| run.is_of_schedule() && run.ended.is_none()).count();
    let most = usize::try_from(input.schedule.catch_up.max_active_runs).unwrap_or(1);
    let mut at = settled;
    for ahead in 0..usize::try_from(COUNTED).unwrap_or(usize::MAX) {
        let Some(tick) = due(at) else { break };
        at = tick;
        if has_ended(input, tick) {
            continue;
        }
        decision.status.backlog += 1;
        if find(input, tick).is_some() || active >= most || ahead >= AHEAD {
            continue;
        }
        active += 1;
        let newest = due(tick).is_none();
        decision.create.push(NewRun {
            job: Some(names::scheduled_job(input.cron_job, tick)),
            run_id: tick.to_string(),
            kind: if newest { RunKind::Scheduled } else { RunKind::CatchUp },
            interval: DataInterval::ending(tick, input.ticks),
            arguments: BTreeMap::new(),
            nonce: None,
        });
    }
    Some(settled)
}

fn find<'a>(input: &ScheduleInput<'a>, tick: Timestamp) -> Option<&'a RunJob> {
    let name = names::scheduled_job(input.cron_job, tick);
    input.runs.iter().find(|run| run.job.name_any() == name)
}

/// Whether the run of a tick has ended: by its Job or, where that is gone, by the history.
fn has_ended(input: &ScheduleInput<'_>, tick: Timestamp) -> bool {
    if let Some(run) = find(input, tick) {
        return run.ended.is_some();
    }
    let name = names::scheduled_job(input.cron_job, tick);
    input.history.runs.iter().any(|run| run.job == name)
}

/// Up to when intervals are skipped so that at most `limit` are left.
fn skipped(ticks: &Ticks, settled: Timestamp, limit: i32, now: Timestamp) -> Timestamp {
    let mut left = settled;
    for _ in 0..=limit {
        match ticks.after(left).filter(|tick| *tick <= now) {
            Some(tick) => left = tick,
            None => return settled,
        }
    }
    let mut oldest = now.checked_add(Duration::from_nanos(1)).unwrap_or(now);
    for _ in 0..=limit {
        match ticks.before(oldest) {
            Some(tick) => oldest = tick,
            None => return settled,
        }
    }
    oldest
}

/// The requested run: until it has ended, there is a Job of it.
fn run_now(input: &ScheduleInput<'_>, decision: &mut Decision) {
    let recorded = input.recorded.run_now.as_ref();
    decision.run_now = recorded.cloned();
    let Some(requested) = input.run_now else { return };
    if recorded.is_some_and(|status| status.nonce == requested.nonce && status.outcome.is_some()) {
        return;
    }
    let found = input.runs.iter().find(|run| run.nonce.as_ref() == Some(&requested.nonce));
    if let Some(run) = found {
        let ended = run.ended.as_ref();
        decision.run_now = Some(RunNowStatus {
            nonce: requested.nonce.clone(),
            job: run.name(),
            outcome: ended.map(|ended| ended.outcome),
            finished_at: ended.and_then(|ended| ended.finished_at.clone()),
        });
        return;
    }
    // A pause after failures does not prevent it: a requested run shows whether the fault is fixed.
    if !input.suspended {
        decision.create.push(NewRun {
            job: None,
            run_id: format!("now:{}", requested.nonce),
            kind: RunKind::Manual,
            interval: requested.interval.as_ref().map(DataInterval::from),
            arguments: requested.arguments.clone(),
            nonce: Some(requested.nonce.clone()),
        });
    }
}

/// The operator's ended Jobs beyond the history limits that the status, as read back, has recorded.
fn outdated(input: &ScheduleInput<'_>) -> Vec<String> {
    let recorded = History::of(input.recorded, &[], None);
    let settled = input
        .recorded
        .schedule
        .as_ref()
        .and_then(|status| status.settled_until.as_ref())
        .map(|at| at.0);
    let is_needed = |run: &RunJob| match (run.due, &run.nonce) {
        (Some(due), _) => settled.is_none_or(|settled| due > settled),
        (None, Some(nonce)) => input
            .recorded
            .run_now
            .as_ref()
            .is_some_and(|status| status.nonce == *nonce && status.outcome.is_none()),
        (None, None) => false,
    };
    // The CronJob deletes its own Jobs.
    let own = input
        .runs
        .iter()
        .filter(|run| !run.gone && run.job.labels().contains_key(labels::RUN_KIND));
    let limits = (
        input.schedule.successful_jobs_history_limit,
        input.schedule.failed_jobs_history_limit,
    );
    History::beyond(own, limits)
        .into_iter()
        .filter(|run| run.ended.as_ref().is_some_and(|ended| recorded.has(ended)) && !is_needed(run))
        .map(RunJob::name)
        .collect()
}

#[cfg(test)]
mod tests;

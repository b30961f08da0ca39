//! Which runs are to be started, and by whom. Pure: the spec, what was recorded, the Jobs there are, and the time.
//!
//! One scheduler at a time. Without catch-up it is the CronJob. With it, it is the operator, and the CronJob rests. Both
//! give the Job of a tick the same name, so that there is one of it at most, and the ledger makes a second success a no-op.
//! What is settled is recorded; between that and now, the Jobs are the memory: they are deleted only after they are recorded.

mod history;

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use kube::ResourceExt;
use userpipeline_api::{DataInterval, RunKind, RunNow, RunNowStatus, Schedule, ScheduleStatus, Ticks, UserPipelineStatus};

pub use self::history::History;
use super::runs::{SeenRun, scheduled_name, seconds};

/// The reason of a schedule that has paused.
pub const PAUSED: &str = "PausedAfterFailures";
/// Intervals that are to be run are counted up to this.
const COUNTED: i32 = 1000;
/// So far beyond what is settled runs are started, however many may be under way: one that hangs must not let the rest
/// grow without end.
const AHEAD: usize = 200;
/// A moment, to be surely beyond a tick.
const MOMENT: Duration = Duration::from_millis(500);

/// What is decided about.
pub struct Facts<'a> {
    /// The schedule.
    pub schedule: &'a Schedule,
    /// Its ticks.
    pub ticks: &'a Ticks,
    /// The run that is asked for.
    pub run_now: Option<&'a RunNow>,
    /// Nothing is to be started.
    pub suspended: bool,
    /// When the pipeline was made.
    pub created_at: Timestamp,
    /// The name of its CronJob.
    pub cron_job: &'a str,
    /// The last tick for which the CronJob has started a run.
    pub cron_job_ran: Option<Timestamp>,
    /// What the status said before.
    pub recorded: &'a UserPipelineStatus,
    /// The runs that have ended, with what is seen now.
    pub history: &'a History,
    /// The Jobs there are.
    pub seen: &'a [SeenRun],
}

/// A run that is to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRun {
    /// Its Job's name, where that is given; else it follows from the nonce.
    pub job: Option<String>,
    /// Its id in the ledger.
    pub run_id: String,
    /// Why it happens.
    pub kind: RunKind,
    /// Its data interval; the last complete one, when not given.
    pub interval: Option<DataInterval>,
    /// Other values than the schedule has.
    pub arguments: BTreeMap<String, String>,
    /// The request of `spec.runNow` that it answers.
    pub nonce: Option<String>,
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// What is to be recorded.
    pub status: ScheduleStatus,
    /// What became of the run that was asked for.
    pub run_now: Option<RunNowStatus>,
    /// The CronJob must not start runs.
    pub cron_job_rests: bool,
    /// Too many runs have failed.
    pub paused: bool,
    /// Runs that are to be started.
    pub create: Vec<NewRun>,
    /// Jobs of ours that are no longer needed.
    pub delete: Vec<String>,
    /// When to look again, if nothing happens before.
    pub look_again: Option<Duration>,
}

/// Decides which runs are to be started.
pub fn decide(facts: &Facts<'_>, now: Timestamp) -> Decision {
    let Facts { schedule, history, .. } = facts;
    let paused = schedule
        .pause_after_failures
        .is_some_and(|limit| history.consecutive_failures >= limit);
    let rests = facts.suspended || paused;
    let mut decision = Decision {
        status: ScheduleStatus {
            consecutive_failures: history.consecutive_failures,
            failures_of: history.failures_of.clone(),
            ..ScheduleStatus::default()
        },
        cron_job_rests: rests || schedule.catch_up.enabled,
        paused,
        ..Decision::default()
    };
    let (mut settled, begins) = settled(facts);
    // The CronJob cannot be told when to begin.
    decision.cron_job_rests |= begins.is_some_and(|begins| now < begins);
    if schedule.catch_up.enabled {
        settled = catch_up(facts, settled, rests, now, &mut decision);
    }
    decision.status.settled_until = settled.map(seconds);
    if !rests {
        let next = next(facts, begins, now);
        decision.status.next_run_at = next.map(seconds);
        let awaited = begins.filter(|begins| now < *begins).or(next);
        decision.look_again = awaited
            .and_then(|at| Duration::try_from(at.duration_since(now)).ok())
            .map(|wait| wait + MOMENT);
    }
    run_now(facts, &mut decision);
    decision.delete = outdated(facts);
    decision
}

/// Up to when nothing is left to be started; and, where a start is given, when the first interval begins. Without any tick
/// there is neither.
fn settled(facts: &Facts<'_>) -> (Option<Timestamp>, Option<Timestamp>) {
    let begins = match &facts.schedule.start_at {
        // The tick at which the first interval begins ends one that is not to be run.
        Some(start) => start
            .0
            .checked_sub(Duration::from_nanos(1))
            .ok()
            .and_then(|before| facts.ticks.after(before)),
        None => None,
    };
    let recorded = facts
        .recorded
        .schedule
        .as_ref()
        .and_then(|status| status.settled_until.as_ref())
        .map(|at| at.0);
    let settled = match (recorded, &facts.schedule.start_at) {
        // A start that is moved to later counts; to run what lies before what is settled is for a back-fill.
        (Some(recorded), _) => Some(recorded.max(begins.unwrap_or(recorded))),
        (None, Some(_)) => begins,
        (None, None) => Some(facts.created_at),
    };
    (settled.max(facts.cron_job_ran), begins)
}

fn next(facts: &Facts<'_>, begins: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
    match (&facts.schedule.start_at, begins) {
        (None, _) => facts.ticks.after(now),
        (Some(_), Some(begins)) => facts.ticks.after(begins.max(now)),
        (Some(_), None) => None,
    }
}

/// The operator's own scheduling: every tick that is due and not settled, the oldest first. Gives what is settled now.
fn catch_up(facts: &Facts<'_>, settled: Option<Timestamp>, rests: bool, now: Timestamp, decision: &mut Decision) -> Option<Timestamp> {
    let mut settled = settled?;
    let due = |after: Timestamp| facts.ticks.after(after).filter(|tick| *tick <= now);
    while let Some(tick) = due(settled)
        && has_ended(facts, tick)
    {
        settled = tick;
    }
    if rests {
        return Some(settled);
    }
    if let Some(limit) = facts.schedule.catch_up.limit {
        settled = settled.max(given_up(facts.ticks, settled, limit, now));
    }
    let mut active = facts.seen.iter().filter(|run| run.is_of_schedule() && run.ended.is_none()).count();
    let most = usize::try_from(facts.schedule.catch_up.max_active_runs).unwrap_or(1);
    let mut at = settled;
    for ahead in 0..usize::try_from(COUNTED).unwrap_or(usize::MAX) {
        let Some(tick) = due(at) else { break };
        at = tick;
        if has_ended(facts, tick) {
            continue;
        }
        decision.status.backlog += 1;
        if find(facts, tick).is_some() || active >= most || ahead >= AHEAD {
            continue;
        }
        active += 1;
        let newest = due(tick).is_none();
        decision.create.push(NewRun {
            job: Some(scheduled_name(facts.cron_job, tick)),
            run_id: tick.to_string(),
            kind: if newest { RunKind::Scheduled } else { RunKind::CatchUp },
            interval: DataInterval::ending(tick, facts.ticks),
            arguments: BTreeMap::new(),
            nonce: None,
        });
    }
    Some(settled)
}

fn find<'a>(facts: &Facts<'a>, tick: Timestamp) -> Option<&'a SeenRun> {
    let name = scheduled_name(facts.cron_job, tick);
    facts.seen.iter().find(|run| run.job.name_any() == name)
}

/// Whether the run of a tick has ended: by its Job, or by what is recorded where that is gone.
fn has_ended(facts: &Facts<'_>, tick: Timestamp) -> bool {
    if let Some(run) = find(facts, tick) {
        return run.ended.is_some();
    }
    let name = scheduled_name(facts.cron_job, tick);
    facts.history.runs.iter().any(|run| run.job == name)
}

/// Up to when intervals are given up, so that at most `limit` are left.
fn given_up(ticks: &Ticks, settled: Timestamp, limit: i32, now: Timestamp) -> Timestamp {
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

/// The run that is asked for: until it has ended, there is a Job of it.
fn run_now(facts: &Facts<'_>, decision: &mut Decision) {
    let recorded = facts.recorded.run_now.as_ref();
    decision.run_now = recorded.cloned();
    let Some(wanted) = facts.run_now else { return };
    if recorded.is_some_and(|status| status.nonce == wanted.nonce && status.outcome.is_some()) {
        return;
    }
    let found = facts.seen.iter().find(|run| run.nonce.as_ref() == Some(&wanted.nonce));
    if let Some(run) = found {
        let ended = run.ended.as_ref();
        decision.run_now = Some(RunNowStatus {
            nonce: wanted.nonce.clone(),
            job: run.name(),
            outcome: ended.map(|ended| ended.outcome.clone()),
            finished_at: ended.and_then(|ended| ended.finished_at.clone()),
        });
        return;
    }
    // A pause after failures is no obstacle: this is how to find out whether it works again.
    if !facts.suspended {
        decision.create.push(NewRun {
            job: None,
            run_id: format!("now:{}", wanted.nonce),
            kind: RunKind::Manual,
            interval: wanted.interval.as_ref().map(DataInterval::from),
            arguments: wanted.arguments.clone(),
            nonce: Some(wanted.nonce.clone()),
        });
    }
}

/// Ended Jobs of ours beyond the history limits, as far as the status that was read back has recorded them.
fn outdated(facts: &Facts<'_>) -> Vec<String> {
    let recorded = History::of(facts.recorded, &[], None);
    let settled = facts
        .recorded
        .schedule
        .as_ref()
        .and_then(|status| status.settled_until.as_ref())
        .map(|at| at.0);
    let is_needed = |run: &SeenRun| match (run.due, &run.nonce) {
        (Some(due), _) => settled.is_none_or(|settled| due > settled),
        (None, Some(nonce)) => facts
            .recorded
            .run_now
            .as_ref()
            .is_some_and(|status| status.nonce == *nonce && status.outcome.is_none()),
        (None, None) => false,
    };
    // The CronJob looks after its own.
    let ours = facts
        .seen
        .iter()
        .filter(|run| run.job.labels().contains_key(super::build::labels::RUN_KIND));
    let kept = (
        facts.schedule.successful_jobs_history_limit,
        facts.schedule.failed_jobs_history_limit,
    );
    History::beyond(ours, kept)
        .into_iter()
        .filter(|run| run.ended.as_ref().is_some_and(|ended| recorded.has(ended)) && !is_needed(run))
        .map(SeenRun::name)
        .collect()
}

#[cfg(test)]
mod tests;

//! Which runs of a back-fill are due. Pure.
//!
//! As with the schedule, the status records up to when intervals are settled; after that, the Jobs are the record.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use userpipeline_api::{
    DataInterval, Interval, Order, Reprocess, RunKind, RunOutcome, Settled, Ticks, UserPipelineBackfillSpec, UserPipelineBackfillStatus,
    names,
};

use crate::pipeline::{History, NewRun, RunJob, whole_seconds};

/// A back-fill with more intervals is refused.
pub const MAX_INTERVALS: i32 = 10_000;
/// Intervals that the status of a dry run lists.
const LISTED: usize = 100;
/// Runs are started at most so many intervals after the last settled one.
const AHEAD: usize = 200;
/// Reasons of runs that had ended before the back-fill.
const SKIPPED: [&str; 2] = ["AlreadyDone", "AlreadyFailed"];

pub struct BackfillInput<'a> {
    pub spec: &'a UserPipelineBackfillSpec,
    /// Of the back-fill.
    pub uid: &'a str,
    /// When the back-fill was created: later intervals belong to the schedule.
    pub created_at: Timestamp,
    /// Of the pipeline's schedule.
    pub ticks: &'a Ticks,
    /// An obstacle prevents new runs.
    pub held: bool,
    /// How many Jobs of successful and of failed runs are retained.
    pub history_limits: (i32, i32),
    pub recorded: &'a UserPipelineBackfillStatus,
    pub runs: &'a [RunJob],
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// To be written, without conditions.
    pub status: UserPipelineBackfillStatus,
    pub create: Vec<NewRun>,
    /// Names of Jobs that are no longer needed.
    pub delete: Vec<String>,
    /// Every interval has been run.
    pub complete: bool,
    /// There are more intervals than [`MAX_INTERVALS`].
    pub too_many: bool,
}

/// Decides which runs to start.
pub fn decide(input: &BackfillInput<'_>, now: Timestamp) -> Decision {
    let recorded = input.recorded;
    let mut decision = Decision {
        status: UserPipelineBackfillStatus {
            total: recorded.total,
            settled: recorded.settled.clone(),
            completed_at: recorded.completed_at.clone(),
            ..UserPipelineBackfillStatus::default()
        },
        ..Decision::default()
    };
    if recorded.total == 0 {
        let most = usize::try_from(MAX_INTERVALS).unwrap_or(usize::MAX);
        let total = input.intervals(None).take(most + 1).count();
        decision.status.total = i32::try_from(total).unwrap_or(i32::MAX);
    }
    decision.too_many = decision.status.total > MAX_INTERVALS;
    if input.spec.dry_run || decision.too_many {
        decision.status.intervals = input.intervals(None).take(LISTED).map(Interval::from).collect();
        decision.complete = !decision.too_many;
        return decision;
    }

    let mut settled = recorded.settled.clone().unwrap_or_default();
    let until = settled.until.as_ref().map(|at| at.0);
    let mut left = input.intervals(until).peekable();
    while let Some(ended) = left.peek().and_then(|interval| input.find(interval)?.ended.as_ref()) {
        count(&mut settled, ended.outcome, &ended.reason);
        settled.until = left.next().map(|interval| Time(interval.end));
    }
    decision.complete = left.peek().is_none();
    let mut all = settled.clone();
    let mut active = input.runs.iter().filter(|run| run.ended.is_none()).count();
    decision.status.running = i32::try_from(active).unwrap_or(i32::MAX);
    let most = usize::try_from(input.spec.max_active_runs).unwrap_or(1);
    for interval in left.take(AHEAD) {
        match input.find(&interval).map(|run| run.ended.as_ref()) {
            Some(Some(ended)) => count(&mut all, ended.outcome, &ended.reason),
            Some(None) => {}
            None if active < most && !input.held => {
                active += 1;
                decision.create.push(input.run(interval));
            }
            None => {
                decision.status.next.get_or_insert_with(|| interval.into());
            }
        }
    }
    decision.status.succeeded = all.succeeded;
    decision.status.failed = all.failed;
    decision.status.skipped = all.skipped;
    decision.status.settled = Some(settled).filter(|settled| settled.until.is_some());
    if decision.complete {
        decision.status.completed_at = recorded.completed_at.clone().or_else(|| Some(whole_seconds(now)));
    }
    decision.delete = input.outdated();
    decision
}

fn count(settled: &mut Settled, outcome: RunOutcome, reason: &str) {
    let counter = if outcome == RunOutcome::Failed {
        &mut settled.failed
    } else if SKIPPED.contains(&reason) {
        &mut settled.skipped
    } else {
        &mut settled.succeeded
    };
    *counter += 1;
}

impl BackfillInput<'_> {
    /// The intervals after the one that ends at `until`, in the spec's order; without it, all.
    fn intervals(&self, until: Option<Timestamp>) -> impl Iterator<Item = DataInterval> + use<'_> {
        let from = self.spec.from.0;
        let last = self.spec.to.0.min(self.created_at);
        let moment = Duration::from_nanos(1);
        let begins = from.checked_sub(moment).ok().and_then(|before| self.ticks.after(before));
        let (first, oldest_first) = match self.spec.order {
            Order::OldestFirst => (begins, true),
            Order::NewestFirst => (last.checked_add(moment).ok(), false),
        };
        let mut at = until.or(first);
        std::iter::from_fn(move || {
            at = if oldest_first {
                self.ticks.after(at?)
            } else {
                self.ticks.before(at?)
            };
            let interval = DataInterval::ending(at?, self.ticks)?;
            (interval.start >= from && interval.end <= last).then_some(interval)
        })
    }

    fn name(&self, interval: &DataInterval) -> String {
        names::backfill_run(&self.spec.pipeline_ref.name, self.uid, interval.end.as_second() / 60)
    }

    fn find(&self, interval: &DataInterval) -> Option<&RunJob> {
        let name = self.name(interval);
        self.runs.iter().find(|run| run.name() == name)
    }

    fn run(&self, interval: DataInterval) -> NewRun {
        // The id of the scheduled run, so that the ledger has its result; another id to run the interval again.
        let run_id = match self.spec.reprocess {
            Reprocess::None | Reprocess::Failed => interval.end.to_string(),
            Reprocess::All => format!("{}/{}", interval.end, self.uid),
        };
        NewRun {
            job: Some(self.name(&interval)),
            run_id,
            kind: RunKind::Backfill,
            interval: Some(interval),
            arguments: self.spec.arguments.clone(),
            nonce: None,
        }
    }

    /// Ended and recorded Jobs beyond the pipeline's history limits.
    fn outdated(&self) -> Vec<String> {
        let until = self
            .recorded
            .settled
            .as_ref()
            .and_then(|settled| settled.until.as_ref())
            .map(|at| at.0);
        let is_settled = |run: &RunJob| match (until, run.interval, self.spec.order) {
            (Some(until), Some(interval), Order::OldestFirst) => interval.end <= until,
            (Some(until), Some(interval), Order::NewestFirst) => interval.end >= until,
            _ => false,
        };
        History::beyond(self.runs.iter().filter(|run| !run.gone), self.history_limits)
            .into_iter()
            .filter(|run| is_settled(run))
            .map(RunJob::name)
            .collect()
    }
}

#[cfg(test)]
mod tests;

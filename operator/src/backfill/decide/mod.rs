//! Which of a back-fill's runs are to be started. Pure: the spec, what was recorded, the Jobs there are, and the time.
//!
//! As in the schedule, what is settled is recorded, and beyond that the Jobs are the memory.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use userpipeline_api::{
    DataInterval, Interval, Order, Reprocess, RunKind, Settled, Ticks, UserPipelineBackfillSpec, UserPipelineBackfillStatus, names,
};

use crate::pipeline::{
    runs::SeenRun,
    schedule::{History, NewRun},
};

/// More intervals are refused.
pub const MOST: i32 = 10_000;
/// So many intervals of a dry run are listed.
const LISTED: usize = 100;
/// So far beyond what is settled runs are started.
const AHEAD: usize = 200;
/// Reasons of runs that had been run before.
const SKIPPED: [&str; 2] = ["AlreadyDone", "AlreadyFailed"];

/// What is decided about.
pub struct Facts<'a> {
    /// What is wanted.
    pub spec: &'a UserPipelineBackfillSpec,
    /// The back-fill's uid.
    pub uid: &'a str,
    /// When it was made: later intervals are the schedule's.
    pub created_at: Timestamp,
    /// The pipeline's ticks.
    pub ticks: &'a Ticks,
    /// Nothing is to be started for now.
    pub held: bool,
    /// How many Jobs of successful and of failed runs are kept.
    pub kept: (i32, i32),
    /// What the status said before.
    pub recorded: &'a UserPipelineBackfillStatus,
    /// Its Jobs.
    pub seen: &'a [SeenRun],
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// What is to be recorded; conditions are left to the caller.
    pub status: UserPipelineBackfillStatus,
    /// Runs that are to be started.
    pub create: Vec<NewRun>,
    /// Jobs that are no longer needed.
    pub delete: Vec<String>,
    /// Nothing is left to be done.
    pub complete: bool,
    /// There are more intervals than [`MOST`].
    pub too_many: bool,
}

/// Decides which runs are to be started.
pub fn decide(facts: &Facts<'_>, now: Timestamp) -> Decision {
    let recorded = facts.recorded;
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
        let most = usize::try_from(MOST).unwrap_or(usize::MAX);
        let total = facts.intervals(None).take(most + 1).count();
        decision.status.total = i32::try_from(total).unwrap_or(i32::MAX);
    }
    decision.too_many = decision.status.total > MOST;
    if facts.spec.dry_run || decision.too_many {
        decision.status.intervals = facts.intervals(None).take(LISTED).map(Interval::from).collect();
        decision.complete = !decision.too_many;
        return decision;
    }

    let mut settled = recorded.settled.clone().unwrap_or_default();
    let until = settled.until.as_ref().map(|at| at.0);
    let mut left = facts.intervals(until).peekable();
    while let Some(ended) = left.peek().and_then(|interval| facts.find(interval)?.ended.as_ref()) {
        count(&mut settled, &ended.outcome, &ended.reason);
        settled.until = left.next().map(|interval| Time(interval.end));
    }
    decision.complete = left.peek().is_none();
    let mut all = settled.clone();
    let mut active = facts.seen.iter().filter(|run| run.ended.is_none()).count();
    decision.status.running = i32::try_from(active).unwrap_or(i32::MAX);
    let most = usize::try_from(facts.spec.max_active_runs).unwrap_or(1);
    for interval in left.take(AHEAD) {
        match facts.find(&interval).map(|run| run.ended.as_ref()) {
            Some(Some(ended)) => count(&mut all, &ended.outcome, &ended.reason),
            Some(None) => {}
            None if active < most && !facts.held => {
                active += 1;
                decision.create.push(facts.run(interval));
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
        decision.status.completed_at = recorded.completed_at.clone().or_else(|| Some(crate::pipeline::runs::seconds(now)));
    }
    decision.delete = facts.outdated();
    decision
}

fn count(settled: &mut Settled, outcome: &str, reason: &str) {
    let counter = if outcome != "Succeeded" {
        &mut settled.failed
    } else if SKIPPED.contains(&reason) {
        &mut settled.skipped
    } else {
        &mut settled.succeeded
    };
    *counter += 1;
}

impl Facts<'_> {
    /// The intervals behind the one that ends with `until`, in their order; without it, all.
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

    fn find(&self, interval: &DataInterval) -> Option<&SeenRun> {
        let name = self.name(interval);
        self.seen.iter().find(|run| run.name() == name)
    }

    fn run(&self, interval: DataInterval) -> NewRun {
        // The schedule's own id, so that the ledger knows whether it has been run; or, to run it again, another one.
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

    /// Ended Jobs beyond the pipeline's history limits, as far as they are recorded.
    fn outdated(&self) -> Vec<String> {
        let until = self
            .recorded
            .settled
            .as_ref()
            .and_then(|settled| settled.until.as_ref())
            .map(|at| at.0);
        let is_settled = |run: &SeenRun| match (until, run.interval, self.spec.order) {
            (Some(until), Some(interval), Order::OldestFirst) => interval.end <= until,
            (Some(until), Some(interval), Order::NewestFirst) => interval.end >= until,
            _ => false,
        };
        History::beyond(self.seen.iter(), self.kept)
            .into_iter()
            .filter(|run| is_settled(run))
            .map(SeenRun::name)
            .collect()
    }
}

#[cfg(test)]
mod tests;

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
mod tests {
    use std::{collections::BTreeSet, sync::Arc};

    use proptest::prelude::*;
    use serde_json::{Value, json};
    use userpipeline_api::Run;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    const NOW: &str = "2024-01-10T12:00:00Z";

    struct Case {
        spec: UserPipelineBackfillSpec,
        ticks: Ticks,
        held: bool,
        recorded: UserPipelineBackfillStatus,
        seen: Vec<SeenRun>,
    }

    /// Days 2 to 6 of a daily pipeline.
    fn days(more: &Value) -> Case {
        let mut spec = json!({"pipelineRef": {"name": "users"}, "from": "2024-01-02T00:00:00Z", "to": "2024-01-07T00:00:00Z"});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Case {
            spec: serde_json::from_value(spec).unwrap(),
            ticks: Ticks::read("@daily", "Etc/UTC").unwrap(),
            held: false,
            recorded: UserPipelineBackfillStatus::default(),
            seen: Vec::new(),
        }
    }

    impl Case {
        fn facts(&self) -> Facts<'_> {
            Facts {
                spec: &self.spec,
                uid: "u",
                created_at: at(NOW),
                ticks: &self.ticks,
                held: self.held,
                kept: (1, 1),
                recorded: &self.recorded,
                seen: &self.seen,
            }
        }

        fn decide(&self) -> Decision {
            decide(&self.facts(), at(NOW))
        }

        fn started(&self) -> Vec<String> {
            let create = self.decide().create;
            create
                .iter()
                .map(|run| run.interval.unwrap().start.to_string()[..10].to_owned())
                .collect()
        }

        fn start(&mut self) {
            for run in self.decide().create {
                let name = run.job.unwrap();
                if self.seen.iter().all(|seen| seen.name() != name) {
                    self.seen.push(SeenRun {
                        job: Arc::new(serde_json::from_value(json!({"metadata": {"name": name}})).unwrap()),
                        kind: run.kind,
                        due: None,
                        interval: run.interval,
                        nonce: None,
                        ended: None,
                    });
                }
            }
        }

        fn end(&mut self, which: usize, outcome: &str, reason: &str) {
            let running: Vec<usize> = (0..self.seen.len()).filter(|&i| self.seen[i].ended.is_none()).collect();
            if let Some(&i) = running.get(which % running.len().max(1)) {
                self.seen[i].ended = Some(Run {
                    job: self.seen[i].name(),
                    outcome: outcome.into(),
                    reason: reason.into(),
                    ..Run::default()
                });
            }
        }

        fn record(&mut self) {
            let decision = self.decide();
            self.seen.retain(|run| !decision.delete.contains(&run.name()));
            self.recorded = decision.status;
        }
    }

    #[test]
    fn intervals_lie_within_and_are_complete() {
        let table = [
            (
                json!({}),
                vec!["2024-01-02", "2024-01-03", "2024-01-04", "2024-01-05", "2024-01-06"],
            ),
            (
                json!({"order": "NewestFirst"}),
                vec!["2024-01-06", "2024-01-05", "2024-01-04", "2024-01-03", "2024-01-02"],
            ),
            // Half a day at either end is none.
            (
                json!({"from": "2024-01-02T12:00:00Z", "to": "2024-01-04T12:00:00Z"}),
                vec!["2024-01-03"],
            ),
            (
                json!({"from": "2024-01-02T12:00:00Z", "to": "2024-01-04T12:00:00Z", "order": "NewestFirst"}),
                vec!["2024-01-03"],
            ),
            // What is not complete when the back-fill is made is the schedule's.
            (
                json!({"from": "2024-01-08T00:00:00Z", "to": "2024-02-01T00:00:00Z"}),
                vec!["2024-01-08", "2024-01-09"],
            ),
            (json!({"from": "2024-03-08T00:00:00Z", "to": "2024-04-01T00:00:00Z"}), vec![]),
        ];
        for (mut more, expected) in table {
            more["maxActiveRuns"] = json!(100);
            let case = days(&more);
            assert_eq!(case.started(), expected, "{more}");
            assert_eq!(case.decide().status.total, i32::try_from(expected.len()).unwrap());
            assert_eq!(case.decide().complete, expected.is_empty());
        }
    }

    #[test]
    fn a_dry_run_lists_and_starts_nothing() {
        let mut case = days(&json!({"dryRun": true}));
        let decision = case.decide();
        assert!(decision.complete && decision.create.is_empty());
        assert_eq!((decision.status.total, decision.status.intervals.len()), (5, 5));
        case.recorded = decision.status;
        case.spec.dry_run = false;
        assert_eq!(case.started(), ["2024-01-02"], "and then it begins");
        assert!(case.decide().status.intervals.is_empty());
    }

    #[test]
    fn too_many_intervals_are_refused() {
        let mut case = days(&json!({"from": "2020-01-01T00:00:00Z"}));
        case.ticks = Ticks::read("* * * * *", "Etc/UTC").unwrap();
        let decision = case.decide();
        assert!(decision.too_many && !decision.complete && decision.create.is_empty());
    }

    #[test]
    fn nothing_is_started_while_it_is_held_and_what_comes_next_is_told() {
        let mut case = days(&json!({"maxActiveRuns": 2}));
        case.start();
        case.held = true;
        case.end(0, "Succeeded", "Completed");
        let decision = case.decide();
        assert!(decision.create.is_empty());
        let status = decision.status;
        assert_eq!((status.running, status.succeeded), (1, 1));
        assert_eq!(status.next.unwrap().start.0, at("2024-01-04T00:00:00Z"));
    }

    #[test]
    fn the_ledger_is_asked_for_the_schedules_run_or_for_another_one() {
        for (reprocess, id) in [
            ("None", "2024-01-03T00:00:00Z"),
            ("Failed", "2024-01-03T00:00:00Z"),
            ("All", "2024-01-03T00:00:00Z/u"),
        ] {
            assert_eq!(days(&json!({"reprocess": reprocess})).decide().create[0].run_id, id);
        }
    }

    #[test]
    fn what_had_been_run_before_is_counted_apart() {
        let mut case = days(&json!({"maxActiveRuns": 5}));
        case.start();
        for (outcome, reason) in [
            ("Succeeded", "Completed"),
            ("Succeeded", "AlreadyDone"),
            ("Succeeded", "AlreadyFailed"),
            ("Failed", "SourceFailed"),
            ("Succeeded", "Completed"),
        ] {
            case.end(0, outcome, reason);
        }
        let decision = case.decide();
        assert!(decision.complete);
        let status = decision.status;
        assert_eq!((status.succeeded, status.skipped, status.failed, status.running), (2, 2, 1, 0));
        assert!(status.completed_at.is_some());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(30))]

        /// Crashes before a status is written, Jobs that end in any order or are deleted: each interval is run and counted once.
        #[test]
        fn every_interval_is_run_and_counted_once(
            newest_first in any::<bool>(),
            most in 1_i32..5,
            steps in prop::collection::vec((0_u8..5, any::<usize>()), 0..120),
        ) {
            let order = if newest_first { "NewestFirst" } else { "OldestFirst" };
            let mut case = days(&json!({"from": "2023-12-01T00:00:00Z", "order": order, "maxActiveRuns": most}));
            let mut ran = BTreeSet::new();
            for (step, which) in steps {
                match step {
                    0 => case.start(),
                    1 => case.record(),
                    2 => case.end(which, "Failed", "x"),
                    3 => case.held = which % 3 == 0,
                    _ => case.end(which, "Succeeded", "Completed"),
                }
                ran.extend(case.seen.iter().map(SeenRun::name));
                prop_assert!(case.seen.iter().filter(|run| run.ended.is_none()).count() <= usize::try_from(most).unwrap());
            }
            case.held = false;
            for _ in 0..60 {
                case.start();
                case.end(0, "Succeeded", "Completed");
                ran.extend(case.seen.iter().map(SeenRun::name));
                case.record();
            }
            let status = &case.recorded;
            prop_assert_eq!(status.total, 37);
            prop_assert_eq!(ran.len(), 37);
            prop_assert_eq!(status.succeeded + status.failed, 37);
            prop_assert!(case.decide().complete && status.completed_at.is_some());
            prop_assert!(case.seen.len() <= 2, "{} Jobs are left", case.seen.len());
        }
    }
}

//! Decisions about runs of a back-fill, as tables, and against crashes and Jobs that end in any order.

use std::{collections::BTreeSet, sync::Arc};

use proptest::prelude::*;
use serde_json::{Value, json};
use userpipeline_api::{Run, RunOutcome};

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
    runs: Vec<RunJob>,
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
        runs: Vec::new(),
    }
}

impl Case {
    fn input(&self) -> BackfillInput<'_> {
        BackfillInput {
            spec: &self.spec,
            uid: "u",
            created_at: at(NOW),
            ticks: &self.ticks,
            held: self.held,
            history_limits: (1, 1),
            recorded: &self.recorded,
            runs: &self.runs,
        }
    }

    fn decide(&self) -> Decision {
        decide(&self.input(), at(NOW))
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
            if self.runs.iter().all(|known| known.name() != name) {
                self.runs.push(RunJob {
                    job: Arc::new(serde_json::from_value(json!({"metadata": {"name": name}})).unwrap()),
                    kind: run.kind,
                    due: None,
                    interval: run.interval,
                    nonce: None,
                    gone: false,
                    ended: None,
                });
            }
        }
    }

    fn end(&mut self, which: usize, outcome: RunOutcome, reason: &str) {
        let running: Vec<usize> = (0..self.runs.len()).filter(|&i| self.runs[i].ended.is_none()).collect();
        if let Some(&i) = running.get(which % running.len().max(1)) {
            self.runs[i].ended = Some(Run {
                job: self.runs[i].name(),
                outcome,
                reason: reason.into(),
                ..Run::default()
            });
        }
    }

    fn record(&mut self) {
        let decision = self.decide();
        self.runs.retain(|run| !decision.delete.contains(&run.name()));
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
        // Incomplete intervals at either end are not run.
        (
            json!({"from": "2024-01-02T12:00:00Z", "to": "2024-01-04T12:00:00Z"}),
            vec!["2024-01-03"],
        ),
        (
            json!({"from": "2024-01-02T12:00:00Z", "to": "2024-01-04T12:00:00Z", "order": "NewestFirst"}),
            vec!["2024-01-03"],
        ),
        // Intervals that are incomplete when the back-fill is created belong to the schedule.
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
fn a_dry_run_lists_intervals_and_starts_no_run() {
    let mut case = days(&json!({"dryRun": true}));
    let decision = case.decide();
    assert!(decision.complete && decision.create.is_empty());
    assert_eq!((decision.status.total, decision.status.intervals.len()), (5, 5));
    case.recorded = decision.status;
    case.spec.dry_run = false;
    assert_eq!(case.started(), ["2024-01-02"], "then the runs start");
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
fn given_an_obstacle_then_no_run_is_started_and_the_next_interval_is_reported() {
    let mut case = days(&json!({"maxActiveRuns": 2}));
    case.start();
    case.held = true;
    case.end(0, RunOutcome::Succeeded, "Completed");
    let decision = case.decide();
    assert!(decision.create.is_empty());
    let status = decision.status;
    assert_eq!((status.running, status.succeeded), (1, 1));
    assert_eq!(status.next.unwrap().start.0, at("2024-01-04T00:00:00Z"));
}

#[test]
fn the_run_id_is_that_of_the_schedule_unless_all_intervals_are_reprocessed() {
    for (reprocess, id) in [
        ("None", "2024-01-03T00:00:00Z"),
        ("Failed", "2024-01-03T00:00:00Z"),
        ("All", "2024-01-03T00:00:00Z/u"),
    ] {
        assert_eq!(days(&json!({"reprocess": reprocess})).decide().create[0].run_id, id);
    }
}

#[test]
fn runs_that_had_ended_before_are_counted_as_skipped() {
    let mut case = days(&json!({"maxActiveRuns": 5}));
    case.start();
    for (outcome, reason) in [
        (RunOutcome::Succeeded, "Completed"),
        (RunOutcome::Succeeded, "AlreadyDone"),
        (RunOutcome::Succeeded, "AlreadyFailed"),
        (RunOutcome::Failed, "SourceFailed"),
        (RunOutcome::Succeeded, "Completed"),
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
                2 => case.end(which, RunOutcome::Failed, "x"),
                3 => case.held = which % 3 == 0,
                _ => case.end(which, RunOutcome::Succeeded, "Completed"),
            }
            ran.extend(case.runs.iter().map(RunJob::name));
            prop_assert!(case.runs.iter().filter(|run| run.ended.is_none()).count() <= usize::try_from(most).unwrap());
        }
        case.held = false;
        for _ in 0..60 {
            case.start();
            case.end(0, RunOutcome::Succeeded, "Completed");
            ran.extend(case.runs.iter().map(RunJob::name));
            case.record();
        }
        let status = &case.recorded;
        prop_assert_eq!(status.total, 37);
        prop_assert_eq!(ran.len(), 37);
        prop_assert_eq!(status.succeeded + status.failed, 37);
        prop_assert!(case.decide().complete && status.completed_at.is_some());
        prop_assert!(case.runs.len() <= 2, "{} Jobs are left", case.runs.len());
    }
}

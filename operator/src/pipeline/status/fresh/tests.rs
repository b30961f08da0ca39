//! `DataFresh`, as tables.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde_json::json;
use userpipeline_api::{
    Interval, LastSuccess, Run, ScheduleStatus,
    report::{PartitionReport, WorkerReport},
};

use super::*;
use crate::pipeline::example;

fn at(text: &str) -> Timestamp {
    format!("2025-01-01T{text}Z").parse().unwrap()
}

/// Due each hour; a run may start 200 s late and take 600 s.
fn pipeline() -> UserPipeline {
    let mut pipeline = example::pipeline();
    pipeline.spec.schedule = serde_json::from_value(json!({"cron": "@hourly"})).unwrap();
    pipeline
}

fn run(tick: &str, finished: &str, outcome: RunOutcome) -> Run {
    let end = at(tick);
    Run {
        job: format!("run-{tick}"),
        interval: Some(Interval {
            start: Time(end - jiff::SignedDuration::from_hours(1)),
            end: Time(end),
        }),
        scheduled_at: Some(Time(end)),
        finished_at: Some(Time(at(finished))),
        outcome,
        ..Run::default()
    }
}

fn status(runs: Vec<Run>) -> UserPipelineStatus {
    let success = runs.iter().find(|run| run.outcome == RunOutcome::Succeeded).map(|run| LastSuccess {
        finished_at: run.finished_at.clone(),
        interval_end: run.interval.as_ref().map(|interval| interval.end.clone()),
    });
    UserPipelineStatus {
        runs,
        last_success: success,
        ..UserPipelineStatus::default()
    }
}

/// Two partitions, stored through these moments.
fn workers(through: &[Option<&str>]) -> Observed {
    let partitions = through.iter().zip(0..).map(|(through, partition)| PartitionReport {
        partition,
        stored_through: through.map(at),
        ..PartitionReport::default()
    });
    let report = WorkerReport {
        ready: true,
        topic_partitions: 2,
        partitions: partitions.collect(),
        ..WorkerReport::default()
    };
    Observed {
        reports: [("w".to_owned(), report)].into(),
        ..Observed::default()
    }
}

/// The run of this hour's tick ended after a minute.
fn good(hour: u8) -> Run {
    run(&format!("0{hour}:00:00"), &format!("0{hour}:01:00"), RunOutcome::Succeeded)
}

fn bad(hour: u8) -> Run {
    run(&format!("0{hour}:00:00"), &format!("0{hour}:01:00"), RunOutcome::Failed)
}

fn check(case: &str, runs: Vec<Run>, observed: &Observed, now: &str, (status_is, reason): (&str, &str)) {
    let verdict = fresh(&pipeline(), observed, &UserPipelineStatus::default(), &status(runs), at(now));
    let condition = verdict.condition("DataFresh", None, &[], at(now));
    assert_eq!(
        (condition.status.as_str(), condition.reason.as_str()),
        (status_is, reason),
        "{case}: {}",
        condition.message
    );
}

#[test]
fn data_is_fresh_while_the_last_promised_interval_is_fetched() {
    let all = workers(&[Some("03:30:00"), Some("03:30:00")]);
    let table = [
        ("nothing is due yet", vec![], "00:59:00", ("Unknown", "NotDueYet")),
        ("the first may still run", vec![], "01:10:00", ("Unknown", "NotDueYet")),
        ("the first is missing", vec![], "01:13:21", ("False", "RunOverdue")),
        ("everything is stored", vec![good(1)], "01:30:00", ("True", "Fresh")),
        ("the next may still run", vec![good(1)], "02:10:00", ("True", "Fresh")),
        ("the next is missing", vec![good(1)], "02:13:21", ("False", "RunOverdue")),
        ("the next failed", vec![bad(2), good(1)], "02:02:00", ("False", "RunFailed")),
        ("an older one failed", vec![good(2), bad(1)], "02:02:00", ("True", "Fresh")),
        ("the first failed", vec![bad(1)], "01:02:00", ("False", "RunFailed")),
    ];
    for (case, runs, now, expected) in table {
        check(case, runs, &all, now, expected);
    }
}

#[test]
fn data_is_fresh_while_the_last_fetched_interval_is_in_every_sink() {
    let behind = workers(&[Some("03:30:00"), Some("03:00:30")]);
    check(
        "a partition is behind",
        vec![good(3)],
        &behind,
        "03:05:00",
        ("False", "SinksBehind"),
    );
    check(
        "the newest run may still be stored",
        vec![good(3), good(2)],
        &behind,
        "03:01:30",
        ("True", "Fresh"),
    );
    let none = workers(&[None, None]);
    check(
        "the first run may still be stored",
        vec![good(1)],
        &none,
        "01:01:30",
        ("Unknown", "Storing"),
    );
    let unknown = [
        ("a partition reports nothing", workers(&[Some("03:30:00"), None])),
        ("a partition has no worker", workers(&[Some("03:30:00")])),
        ("there is no worker", Observed::default()),
    ];
    for (case, observed) in unknown {
        check(case, vec![good(3)], &observed, "03:05:00", ("False", "SinksUnknown"));
    }
}

#[test]
fn data_stays_fresh_for_a_minute_while_partitions_change_hands() {
    let before = |status: &str| UserPipelineStatus {
        conditions: vec![Verdict::yes("Fresh", "fetched and stored").condition("DataFresh", None, &[], at("03:00:00"))]
            .into_iter()
            .map(|condition| Condition {
                status: status.to_owned(),
                ..condition
            })
            .collect(),
        ..UserPipelineStatus::default()
    };
    for (was, unknown_since, now, expected) in [
        ("True", Some("03:04:30"), "03:05:00", "True"),
        // The run has just ended.
        ("True", Some("03:00:40"), "03:01:10", "True"),
        ("False", Some("03:00:40"), "03:01:10", "Unknown"),
        ("Unknown", Some("03:04:30"), "03:05:00", "Unknown"),
        ("True", Some("03:04:00"), "03:05:00", "False"),
        ("True", None, "03:05:00", "False"),
        ("False", Some("03:04:30"), "03:05:00", "False"),
    ] {
        let observed = Observed {
            progress_unknown_since: unknown_since.map(at),
            ..workers(&[Some("03:30:00")])
        };
        let verdict = fresh(&pipeline(), &observed, &before(was), &status(vec![good(3)]), at(now));
        let condition = verdict.condition("DataFresh", None, &[], at(now));
        assert_eq!(condition.status, expected, "{was}, {unknown_since:?}");
    }
}

#[test]
fn freshness_is_unknown_before_the_start_and_while_suspended() {
    let mut later = pipeline();
    later.spec.schedule.as_mut().unwrap().start_at = Some(Time(at("05:00:00")));
    let mut suspended = pipeline();
    suspended.spec.suspend = true;
    for (pipeline, reason) in [(later, "NotDueYet"), (suspended, "Suspended")] {
        let verdict = fresh(
            &pipeline,
            &Observed::default(),
            &UserPipelineStatus::default(),
            &UserPipelineStatus::default(),
            at("05:30:00"),
        );
        assert_eq!(
            (verdict.is_true(), verdict.is_false(), verdict.reason.as_str()),
            (false, false, reason)
        );
    }
}

fn condition_of(
    pipeline: &UserPipeline,
    observed: &Observed,
    before: &UserPipelineStatus,
    status: &UserPipelineStatus,
    now: &str,
) -> Condition {
    fresh(pipeline, observed, before, status, at(now)).condition("DataFresh", None, &[], at(now))
}

/// The status with the schedule in effect since then.
fn changed(since: &str, runs: Vec<Run>) -> UserPipelineStatus {
    UserPipelineStatus {
        schedule: Some(ScheduleStatus {
            effective_since: Some(Time(at(since))),
            ..ScheduleStatus::default()
        }),
        ..status(runs)
    }
}

fn was(status: &str, reason: &str) -> UserPipelineStatus {
    UserPipelineStatus {
        conditions: vec![Condition {
            status: status.to_owned(),
            ..Verdict::unknown(reason, "before").condition("DataFresh", None, &[], at("00:00:00"))
        }],
        ..UserPipelineStatus::default()
    }
}

#[test]
fn after_a_change_of_the_schedule_only_later_runs_can_be_overdue() {
    let all = workers(&[Some("09:30:00"), Some("09:30:00")]);
    let (fresh, overdue, suspended) = (("True", "Fresh"), ("False", "RunOverdue"), ("Unknown", "Suspended"));
    let not_due = ("Unknown", "NotDueYet");
    let table = [
        ("no success, just changed", vec![], not_due, "05:30:01", not_due),
        ("no success, the next may still run", vec![], not_due, "06:13:00", not_due),
        ("no success, the next is missing", vec![], not_due, "06:13:21", overdue),
        ("a success, just changed", vec![good(1)], fresh, "05:30:01", fresh),
        ("a success, the next is missing", vec![good(1)], fresh, "06:13:21", overdue),
        ("the next succeeded", vec![good(6), good(1)], fresh, "06:13:21", fresh),
        ("overdue before", vec![good(1)], overdue, "05:30:01", not_due),
        ("overdue before, the next is missing", vec![good(1)], not_due, "06:13:21", overdue),
        (
            "overdue before, the next succeeded",
            vec![good(6), good(1)],
            not_due,
            "06:13:21",
            fresh,
        ),
        ("resumed", vec![good(1)], suspended, "05:30:01", not_due),
        ("resumed with recent data", vec![good(5)], suspended, "05:30:01", fresh),
    ];
    for (case, runs, before, now, expected) in table {
        let condition = condition_of(&pipeline(), &all, &was(before.0, before.1), &changed("05:30:00", runs), now);
        assert_eq!(
            (condition.status.as_str(), condition.reason.as_str()),
            expected,
            "{case}: {}",
            condition.message
        );
    }
}

#[test]
fn an_earlier_start_makes_no_past_run_overdue() {
    let mut earlier = pipeline();
    earlier.spec.schedule.as_mut().unwrap().start_at = Some(Time(at("01:00:00")));
    let before = was("Unknown", "NotDueYet");
    for (now, expected) in [("05:30:01", "Unknown"), ("06:13:21", "False")] {
        let condition = condition_of(&earlier, &Observed::default(), &before, &changed("05:30:00", vec![]), now);
        assert_eq!(condition.status, expected, "{now}");
    }
}

#[test]
fn workers_have_a_minute_to_report_their_progress_after_a_resume() {
    // They have not reported since they were stopped.
    let observed = Observed {
        progress_unknown_since: Some(at("01:00:00")),
        ..Observed::default()
    };
    for (before, now, expected) in [
        (("Unknown", "Suspended"), "05:30:30", "Unknown"),
        (("Unknown", "SinksUnknown"), "05:30:59", "Unknown"),
        (("Unknown", "SinksUnknown"), "05:31:00", "False"),
    ] {
        let condition = condition_of(
            &pipeline(),
            &observed,
            &was(before.0, before.1),
            &changed("05:30:00", vec![good(5)]),
            now,
        );
        assert_eq!(
            (condition.status.as_str(), condition.reason.as_str()),
            (expected, "SinksUnknown"),
            "{now}"
        );
    }
}

#[test]
fn data_of_external_producers_stays_fresh_for_a_minute_while_partitions_change_hands() {
    let mut external = pipeline();
    external.spec.schedule = None;
    for (before, unknown_since, expected) in [
        ("True", Some("03:04:30"), "True"),
        ("True", Some("03:04:00"), "Unknown"),
        ("True", None, "Unknown"),
        ("False", Some("03:04:30"), "Unknown"),
        ("Unknown", Some("03:04:30"), "Unknown"),
    ] {
        let observed = Observed {
            progress_unknown_since: unknown_since.map(at),
            ..Observed::default()
        };
        let condition = condition_of(
            &external,
            &observed,
            &was(before, "Fresh"),
            &UserPipelineStatus::default(),
            "03:05:00",
        );
        assert_eq!(condition.status, expected, "{before}, {unknown_since:?}");
    }
}

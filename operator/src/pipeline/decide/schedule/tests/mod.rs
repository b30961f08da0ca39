//! Decisions about runs, as tables.

mod effective;
mod model;

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};
use userpipeline_api::{Run, RunOutcome};

use super::*;
use crate::pipeline::model::labels;

const CRON_JOB: &str = "users-ingest";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A pipeline at some time.
struct Case {
    schedule: Schedule,
    run_now: Option<RunNow>,
    suspended: bool,
    last_tick_of_cron_job: Option<Timestamp>,
    recorded: UserPipelineStatus,
    runs: Vec<RunJob>,
}

/// Created at 09:00, due every hour.
fn hourly(more: &Value) -> Case {
    let mut schedule = json!({"cron": "@hourly"});
    schedule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Case {
        schedule: serde_json::from_value(schedule).unwrap(),
        run_now: None,
        suspended: false,
        last_tick_of_cron_job: None,
        recorded: UserPipelineStatus::default(),
        runs: Vec::new(),
    }
}

impl Case {
    fn decide(&self, now: Timestamp) -> Decision {
        let ticks = Ticks::read(&self.schedule.cron, &self.schedule.time_zone).unwrap();
        let input = ScheduleInput {
            schedule: &self.schedule,
            ticks: &ticks,
            run_now: self.run_now.as_ref(),
            suspended: self.suspended,
            created_at: at("2024-01-01T09:00:00Z"),
            generation: Some(2),
            cron_job: CRON_JOB,
            last_tick_of_cron_job: self.last_tick_of_cron_job,
            recorded: &self.recorded,
            history: &History::of(&self.recorded, &self.runs, Some("file")),
            runs: &self.runs,
        };
        decide(&input, now)
    }

    fn started(&self, now: &str) -> Vec<(String, RunKind)> {
        self.decide(at(now)).create.into_iter().map(|run| (run.run_id, run.kind)).collect()
    }
}

fn job(name: &str, kind: RunKind, due: Option<Timestamp>, nonce: Option<&str>, ended: Option<(bool, Timestamp)>) -> RunJob {
    let labels = json!({ labels::RUN_KIND: kind.as_str() });
    RunJob {
        job: Arc::new(serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}})).unwrap()),
        kind,
        due,
        interval: None,
        nonce: nonce.map(str::to_owned),
        gone: false,
        ended: ended.map(|(succeeded, at)| Run {
            job: name.to_owned(),
            kind,
            run_id: Some(name.to_owned()),
            outcome: if succeeded { RunOutcome::Succeeded } else { RunOutcome::Failed },
            finished_at: Some(whole_seconds(at)),
            ..Run::default()
        }),
    }
}

fn of_tick(due: &str, ended: Option<(bool, &str)>) -> RunJob {
    let due = at(due);
    job(
        &names::scheduled_job(CRON_JOB, due),
        RunKind::CatchUp,
        Some(due),
        None,
        ended.map(|(succeeded, finished)| (succeeded, at(finished))),
    )
}

#[test]
fn without_catch_up_the_cron_job_starts_the_runs() {
    let decision = hourly(&json!({})).decide(at("2024-01-01T12:30:00Z"));
    assert!(!decision.suspend_cron_job && decision.create.is_empty());
    assert_eq!(decision.status.next_run_at, Some(Time(at("2024-01-01T13:00:00Z"))));
    assert!(decision.requeue.unwrap() > Duration::from_secs(1800));
}

#[test]
fn with_catch_up_missed_intervals_are_run_oldest_first_within_the_limit() {
    let mut case = hourly(&json!({"catchUp": {"enabled": true, "maxActiveRuns": 2}}));
    let decision = case.decide(at("2024-01-01T12:30:00Z"));
    assert!(decision.suspend_cron_job);
    assert_eq!(decision.status.backlog, 3);
    let first = &decision.create[0];
    assert_eq!(first.job.as_deref(), Some("users-ingest-28401720"));
    assert_eq!(
        first.interval,
        Some(DataInterval {
            start: at("2024-01-01T09:00:00Z"),
            end: at("2024-01-01T10:00:00Z")
        })
    );
    assert_eq!(decision.create.len(), 2);

    case.runs = vec![
        of_tick("2024-01-01T10:00:00Z", Some((true, "2024-01-01T12:31:00Z"))),
        of_tick("2024-01-01T11:00:00Z", None),
    ];
    let decision = case.decide(at("2024-01-01T12:31:00Z"));
    assert_eq!(decision.status.settled_until, Some(Time(at("2024-01-01T10:00:00Z"))));
    let started: Vec<_> = decision.create.iter().map(|run| (run.run_id.as_str(), run.kind)).collect();
    assert_eq!(
        started,
        [("2024-01-01T12:00:00Z", RunKind::Scheduled)],
        "the newest one is scheduled, not caught up"
    );
}

#[test]
fn a_failed_run_blocks_no_other_and_is_settled() {
    let mut case = hourly(&json!({"catchUp": {"enabled": true}}));
    case.runs = vec![of_tick("2024-01-01T10:00:00Z", Some((false, "2024-01-01T12:31:00Z")))];
    assert_eq!(
        case.started("2024-01-01T11:31:00Z"),
        [("2024-01-01T11:00:00Z".to_owned(), RunKind::Scheduled)]
    );
}

#[test]
fn a_suspended_pipeline_starts_no_run_and_catches_up_afterwards() {
    let mut case = hourly(&json!({"catchUp": {"enabled": true, "maxActiveRuns": 10}}));
    case.suspended = true;
    let decision = case.decide(at("2024-01-01T12:30:00Z"));
    assert!(decision.create.is_empty() && decision.suspend_cron_job && decision.requeue.is_none());
    assert_eq!(decision.status.next_run_at, None);
    case.suspended = false;
    assert_eq!(case.started("2024-01-01T12:30:00Z").len(), 3);
}

#[test]
fn the_limit_skips_the_oldest_intervals() {
    for (limit, first, count) in [
        (1, "2024-01-01T12:00:00Z", 1),
        (2, "2024-01-01T11:00:00Z", 2),
        (3, "2024-01-01T10:00:00Z", 3),
        (9, "2024-01-01T10:00:00Z", 3),
    ] {
        let case = hourly(&json!({"catchUp": {"enabled": true, "maxActiveRuns": 10, "limit": limit}}));
        for now in ["2024-01-01T12:00:00Z", "2024-01-01T12:30:00Z"] {
            let started = case.started(now);
            assert_eq!((started[0].0.as_str(), started.len()), (first, count), "{limit} at {now}");
        }
    }
}

#[test]
fn given_a_start_in_the_future_then_no_run_starts_before_it() {
    for catch_up in [false, true] {
        let case = hourly(&json!({"startAt": "2024-01-01T11:30:00Z", "catchUp": {"enabled": catch_up, "maxActiveRuns": 9}}));
        let before = case.decide(at("2024-01-01T11:59:00Z"));
        assert!(before.suspend_cron_job && before.create.is_empty());
        // The first interval begins at twelve and is due at one.
        assert_eq!(before.status.next_run_at, Some(Time(at("2024-01-01T13:00:00Z"))));
        let begun = case.decide(at("2024-01-01T12:00:01Z"));
        assert_eq!((begun.suspend_cron_job, begun.create.len()), (catch_up, 0));
        assert_eq!(case.started("2024-01-01T13:00:00Z").len(), usize::from(catch_up));
    }
}

#[test]
fn given_a_start_in_the_past_then_its_intervals_are_caught_up() {
    let case = hourly(&json!({"startAt": "2023-12-31T22:00:00Z", "catchUp": {"enabled": true, "maxActiveRuns": 2}}));
    let started: Vec<_> = case.started("2024-01-01T09:10:00Z").into_iter().map(|(id, _)| id).collect();
    assert_eq!(started, ["2023-12-31T23:00:00Z", "2024-01-01T00:00:00Z"]);
}

#[test]
fn intervals_that_the_cron_job_ran_are_not_repeated_when_catch_up_is_enabled() {
    let mut case = hourly(&json!({"catchUp": {"enabled": true, "maxActiveRuns": 9}}));
    case.last_tick_of_cron_job = Some(at("2024-01-01T11:00:00Z"));
    assert_eq!(
        case.started("2024-01-01T12:30:00Z"),
        [("2024-01-01T12:00:00Z".to_owned(), RunKind::Scheduled)]
    );
}

#[test]
fn failures_in_a_row_pause_the_schedule_but_not_a_requested_run() {
    let mut case = hourly(&json!({"pauseAfterFailures": 2}));
    case.runs = vec![
        of_tick("2024-01-01T10:00:00Z", Some((false, "2024-01-01T10:01:00Z"))),
        of_tick("2024-01-01T11:00:00Z", Some((false, "2024-01-01T11:01:00Z"))),
    ];
    let decision = case.decide(at("2024-01-01T11:30:00Z"));
    assert!(decision.paused && decision.suspend_cron_job);
    assert_eq!((decision.status.consecutive_failures, decision.status.next_run_at), (2, None));
    case.run_now = serde_json::from_value(json!({"nonce": "again"})).unwrap();
    assert_eq!(case.started("2024-01-01T11:31:00Z"), [("now:again".to_owned(), RunKind::Manual)]);
    case.runs.push(job(
        "now",
        RunKind::Manual,
        None,
        Some("again"),
        Some((true, at("2024-01-01T11:32:00Z"))),
    ));
    assert!(!case.decide(at("2024-01-01T11:33:00Z")).paused, "its success ends the pause");
}

#[test]
fn a_requested_run_is_started_once() {
    let mut case = hourly(&json!({}));
    case.run_now =
        serde_json::from_value(json!({"nonce": "a", "interval": {"start": "2020-01-01T00:00:00Z", "end": "2020-01-02T00:00:00Z"}}))
            .unwrap();
    let now = at("2024-01-01T09:30:00Z");
    let started = case.decide(now).create;
    assert_eq!(started[0].interval.unwrap().end, at("2020-01-02T00:00:00Z"));

    case.suspended = true;
    assert!(case.decide(now).create.is_empty(), "it waits while the pipeline is suspended");
    case.suspended = false;

    case.runs = vec![job("users-now-1", RunKind::Manual, None, Some("a"), None)];
    let decision = case.decide(now);
    assert!(decision.create.is_empty());
    assert_eq!(decision.run_now.as_ref().unwrap().outcome, None);

    case.runs = vec![job("users-now-1", RunKind::Manual, None, Some("a"), Some((false, now)))];
    let decision = case.decide(now);
    assert_eq!(decision.run_now.as_ref().unwrap().outcome, Some(RunOutcome::Failed));

    case.recorded.run_now = decision.run_now;
    case.runs.clear();
    assert!(case.decide(now).create.is_empty(), "its Job is gone, but its result is recorded");
    case.run_now.as_mut().unwrap().nonce = "b".into();
    assert_eq!(case.started("2024-01-01T09:30:00Z").len(), 1);
}

#[test]
fn jobs_stay_until_they_are_recorded_and_within_the_history_limits() {
    let mut case = hourly(&json!({"catchUp": {"enabled": true}, "successfulJobsHistoryLimit": 1}));
    case.runs = (10..=13)
        .map(|hour| {
            of_tick(
                &format!("2024-01-01T{hour}:00:00Z"),
                Some((true, &format!("2024-01-01T{hour}:01:00Z"))),
            )
        })
        .collect();
    let now = at("2024-01-01T13:30:00Z");
    let decision = case.decide(now);
    assert!(decision.delete.is_empty(), "none of them is recorded");
    case.recorded.schedule = Some(decision.status);
    case.recorded.runs = History::of(&UserPipelineStatus::default(), &case.runs, Some("file")).runs;
    assert_eq!(
        case.decide(now).delete,
        ["users-ingest-28401840", "users-ingest-28401780", "users-ingest-28401720"]
    );
    // A run after the last settled interval is still needed.
    case.recorded.schedule.as_mut().unwrap().settled_until = Some(Time(at("2024-01-01T11:00:00Z")));
    assert_eq!(case.decide(now).delete, ["users-ingest-28401780", "users-ingest-28401720"]);
}

//! When a schema Job is due, as tables.

use super::*;

fn decide(desired: &str, recorded: &SchemaStatus, jobs: &[TaskJob<SchemaReport>], now: Timestamp) -> Decision {
    super::decide(desired, "t", recorded, jobs, now)
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn job(hash: &str, attempt: i32, created: i64, progress: Progress<SchemaReport>) -> TaskJob<SchemaReport> {
    TaskJob {
        name: format!("users-schema-{hash}-{attempt}"),
        subject: hash.into(),
        task_hash: "t".into(),
        attempt,
        created_at: at(created),
        deleting: false,
        gone: false,
        progress,
    }
}

fn running() -> Progress<SchemaReport> {
    Progress::Running { problem: None }
}

fn succeeded(second: i64) -> Progress<SchemaReport> {
    Progress::Succeeded {
        at: at(second),
        report: SchemaReport {
            reason: "Applied".into(),
            topic_ready: Some(true),
            partitions: Some(3),
            schema_id: Some(7),
            ..SchemaReport::default()
        },
    }
}

fn failed(second: i64) -> Progress<SchemaReport> {
    Progress::Failed {
        at: at(second),
        report: SchemaReport {
            reason: "RegistryUnreachable".into(),
            message: "no route".into(),
            ..SchemaReport::default()
        },
    }
}

fn applied(hash: &str, second: i64) -> SchemaStatus {
    SchemaStatus {
        applied_hash: Some(hash.into()),
        applied_at: Some(Time(at(second))),
        schema_id: Some(7),
        partitions: Some(3),
        ..SchemaStatus::default()
    }
}

fn attempted(status: SchemaStatus, hash: &str, failures: i32, second: i64) -> SchemaStatus {
    SchemaStatus {
        attempted_hash: Some(hash.into()),
        failed_attempts: failures,
        failed_at: (failures > 0).then(|| Time(at(second))),
        failure_reason: (failures > 0).then(|| "RegistryUnreachable".into()),
        failure_message: (failures > 0).then(|| "no route".into()),
        ..status
    }
}

fn deleted(decision: &Decision) -> Vec<(&str, bool)> {
    decision.delete.iter().map(|d| (d.name.as_str(), d.running)).collect()
}

#[test]
fn given_no_record_then_the_first_job_is_created() {
    let decision = decide("a", &SchemaStatus::default(), &[], at(0));
    assert_eq!(decision.create, Some(0));
    assert_eq!(decision.finding, Finding::Applying(None));
}

#[test]
fn given_the_desired_schema_is_applied_then_nothing_is_due() {
    let decision = decide("a", &applied("a", 0), &[], at(100));
    assert_eq!(
        decision,
        Decision {
            status: applied("a", 0),
            ..Decision::default()
        }
    );
}

#[test]
fn given_a_running_job_then_its_attempt_is_recorded_and_no_other_is_created() {
    let decision = decide("a", &SchemaStatus::default(), &[job("a", 0, 0, running())], at(1));
    assert_eq!(decision.create, None);
    assert_eq!(decision.status.attempted_hash.as_deref(), Some("a"));
    assert_eq!(decision.finding, Finding::Applying(None));
}

#[test]
fn a_success_is_recorded_first_and_deleted_when_the_record_is_read_back() {
    let jobs = [job("a", 0, 0, succeeded(5))];
    let first = decide("a", &attempted(SchemaStatus::default(), "a", 0, 0), &jobs, at(6));
    assert_eq!(first.status, applied("a", 5));
    assert_eq!(first.finding, Finding::Applied);
    assert!(first.delete.is_empty());
    let again = decide("a", &attempted(SchemaStatus::default(), "a", 0, 0), &jobs, at(9));
    assert_eq!(again.status, first.status, "a stale cache changes nothing");
    let second = decide("a", &first.status, &jobs, at(10));
    assert_eq!(deleted(&second), [("users-schema-a-0", false)]);
    assert_eq!(second.status, first.status);
}

#[test]
fn a_failure_is_recorded_then_its_job_is_deleted_and_repeated_after_the_back_off() {
    let jobs = [job("a", 0, 0, failed(5))];
    let first = decide("a", &SchemaStatus::default(), &jobs, at(5));
    assert_eq!(first.status, attempted(SchemaStatus::default(), "a", 1, 5));
    assert_eq!(first.finding, Finding::Failed);
    let second = decide("a", &first.status, &jobs, at(6));
    assert!(second.delete.is_empty(), "its log can be read during the back-off");
    assert_eq!(second.requeue, Some(Duration::from_secs(1)));
    let third = decide("a", &first.status, &jobs, at(7));
    assert_eq!(deleted(&third), [("users-schema-a-0", false)]);
    assert_eq!(third.create, None, "only when the old one is gone");
    let fourth = decide("a", &first.status, &[], at(8));
    assert_eq!(fourth.create, Some(1));
}

#[test]
fn given_a_to_b_and_back_then_a_is_applied_again() {
    let b = applied("b", 50);
    assert_eq!(decide("a", &b, &[], at(60)).create, Some(0));
    // A Job for A that could not be deleted before B was applied does not prove that A is applied.
    let leftover = [job("a", 0, 0, succeeded(5))];
    let decision = decide("a", &b, &leftover, at(60));
    assert_eq!(decision.status.applied_hash.as_deref(), Some("b"));
    assert_eq!(deleted(&decision), [("users-schema-a-0", false)]);
    assert_eq!(decision.create, None);
}

#[test]
fn given_a_half_applied_b_then_going_back_to_a_applies_a_again() {
    let status = attempted(applied("a", 0), "b", 1, 20);
    assert_eq!(decide("a", &status, &[], at(21)).create, Some(0), "another spec has no back-off");
    assert_ne!(decide("a", &status, &[], at(21)).finding, Finding::Applied);
}

#[test]
fn an_outdated_running_job_is_recorded_then_deleted_then_waited_for() {
    let mut jobs = [job("b", 0, 10, running())];
    let first = decide("c", &applied("a", 0), &jobs, at(11));
    assert!(first.delete.is_empty());
    assert_eq!(first.status.attempted_hash.as_deref(), Some("b"));
    let second = decide("c", &first.status, &jobs, at(12));
    assert_eq!(deleted(&second), [("users-schema-b-0", true)]);
    assert_eq!(second.finding, Finding::Waiting);
    jobs[0].deleting = true;
    let third = decide("c", &first.status, &jobs, at(13));
    assert_eq!((third.create, third.delete.len()), (None, 0));
    let fourth = decide("c", &first.status, &[], at(14));
    assert_eq!(fourth.create, Some(0));
}

#[test]
fn the_success_of_an_outdated_job_is_recorded() {
    let decision = decide("a", &applied("a", 0), &[job("b", 0, 10, succeeded(15))], at(16));
    assert_eq!(decision.status.applied_hash.as_deref(), Some("b"));
    assert!(!decision.is_applied());
}

#[test]
fn the_problem_of_a_running_job_is_reported() {
    let stuck = Some(("ImagePullBackOff".to_owned(), "no such image".to_owned()));
    let decision = decide(
        "a",
        &SchemaStatus::default(),
        &[job("a", 0, 0, Progress::Running { problem: stuck.clone() })],
        at(1),
    );
    assert_eq!(decision.finding, Finding::Applying(stuck));
}

#[test]
fn while_a_job_exists_no_second_one_is_created() {
    let progresses = [running(), succeeded(5), failed(5)];
    let statuses = [
        SchemaStatus::default(),
        applied("a", 5),
        applied("b", 1),
        attempted(applied("a", 0), "b", 2, 3),
        attempted(SchemaStatus::default(), "a", 1, 5),
    ];
    for status in &statuses {
        for progress in &progresses {
            for hash in ["a", "b"] {
                for deleting in [false, true] {
                    let jobs = [TaskJob {
                        deleting,
                        ..job(hash, 0, 2, progress.clone())
                    }];
                    let decision = decide("a", status, &jobs, at(1000));
                    assert_eq!(decision.create, None, "{status:?} {jobs:?}");
                }
            }
        }
    }
}

#[test]
fn given_a_stuck_job_when_its_pod_settings_change_then_it_is_recreated() {
    let stuck = [job("a", 0, 0, running())];
    let recorded = attempted(SchemaStatus::default(), "a", 0, 0);
    let decision = super::decide("a", "other", &recorded, &stuck, at(5));
    assert_eq!((deleted(&decision), decision.create), (vec![("users-schema-a-0", true)], None));
    assert_eq!(super::decide("a", "other", &recorded, &[], at(6)).create, Some(0));
}

#[test]
fn where_the_stores_were_never_recorded_a_schema_job_is_due_once_more() {
    let applied = SchemaStatus {
        applied_hash: Some("a".into()),
        ..SchemaStatus::default()
    };
    let known = SchemaStatus {
        kafka_cluster: Some("k".into()),
        ..applied.clone()
    };
    for (case, recorded, due) in [("never recorded", &applied, true), ("known", &known, false)] {
        let recorded = until_stores_are_known(recorded.clone(), "a");
        let decision = decide("a", &recorded, &[], at(0));
        assert_eq!(decision.create.is_some(), due, "{case}");
        assert_eq!(decision.status.applied_hash.as_deref(), Some("a"), "{case}");
    }
    assert_eq!(decide("a", &applied, &[], at(0)).create, None, "with inline addresses");
}

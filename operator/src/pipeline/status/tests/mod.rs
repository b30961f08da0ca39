//! Conditions, as tables.

mod invalid;
mod suspension;
mod version;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::{apps::v1::Deployment, batch::v1::Job, core::v1::Pod};
use serde_json::{Value, json};
use userpipeline_api::{ScheduleStatus, SchemaStatus, Totals, UserPipeline, UserPipelineStatus, names::PipelineId, report::WorkerReport};

use super::pipeline_status::RESYNC;
use super::{MEASURE_EVERY, requeue_after};
use crate::pipeline::{
    apply::{Applied, ApplyError},
    children::Children,
    decide::{Decisions, schedule, schema, schema::Finding},
    example,
    model::labels,
    observe::{Observed, run_jobs},
    validate::{ValidateError, validate},
};

fn of(pipeline: &UserPipeline, outcome: Result<&Applied, &ValidateError>, observed: &Observed, now: Timestamp) -> UserPipelineStatus {
    super::pipeline_status(pipeline, outcome, observed, &run_jobs("users-ingest", observed), "0.1.0", now)
}

fn now() -> Timestamp {
    "2025-01-01T00:10:00Z".parse().unwrap()
}

fn deployment(generation: i64, status: &Value) -> Deployment {
    serde_json::from_value(json!({"metadata": {"name": "users-worker", "generation": generation}, "spec": {"replicas": 2, "selector": {}, "template": {}}, "status": status})).unwrap()
}

fn healthy() -> Deployment {
    deployment(
        1,
        &json!({"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2, "readyReplicas": 2}),
    )
}

fn stopped() -> Deployment {
    let mut deployment = deployment(2, &json!({"observedGeneration": 2}));
    deployment.spec.as_mut().unwrap().replicas = Some(0);
    deployment
}

fn applied(deployment: Deployment) -> Applied {
    let status = SchemaStatus {
        applied_hash: Some("a".into()),
        partitions: Some(3),
        ..SchemaStatus::default()
    };
    Applied {
        decisions: Decisions {
            schema: schema::Decision {
                status,
                ..schema::Decision::default()
            },
            ..Decisions::default()
        },
        account: Ok(()),
        schema: Ok(()),
        drained: Ok(()),
        schedule: Ok(Some(Arc::default())),
        started: Ok(()),
        workers: Ok(Some(Arc::new(deployment))),
        leftovers: Vec::new(),
    }
}

fn worker_pod(name: &str, status: &Value) -> Arc<Pod> {
    let labels = labels::labels("users", labels::Component::Worker);
    Arc::new(serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}, "status": status})).unwrap())
}

fn condition<'a>(status: &'a UserPipelineStatus, type_: &str) -> (&'a str, &'a str, &'a str) {
    let found = status
        .conditions
        .iter()
        .find(|c| c.type_ == type_)
        .unwrap_or_else(|| panic!("{type_} is missing"));
    (&found.status, &found.reason, &found.message)
}

fn failure() -> ApplyError {
    ApplyError::NotOurs {
        kind: "Deployment".into(),
        name: "users-worker".into(),
    }
}

#[test]
fn a_pipeline_with_healthy_workers_is_ready() {
    let status = of(&example::pipeline(), Ok(&applied(healthy())), &Observed::default(), now());
    for type_ in ["Ready", "SchemaReady", "TopicReady", "ScheduleReady", "WorkersReady"] {
        assert_eq!(condition(&status, type_).0, "True", "{type_}");
    }
    for type_ in ["Suspended", "Reconciling", "Stalled"] {
        assert_eq!(condition(&status, type_).0, "False", "{type_}");
    }
    assert_eq!(status.observed_generation, Some(1));
    assert!(status.conditions.iter().all(|c| c.observed_generation == Some(1)));
    assert_eq!(status.workers.unwrap().summary, "2/2");
    assert_eq!(status.topic.as_deref(), Some("demo.users"));
}

#[test]
fn more_workers_than_partitions_are_reported_as_idle() {
    for (partitions, reason) in [(1, "IdleWorkers"), (2, "WorkersReady"), (6, "WorkersReady")] {
        let mut applied = applied(healthy());
        applied.decisions.schema.status.partitions = Some(partitions);
        let status = of(&example::pipeline(), Ok(&applied), &Observed::default(), now());
        let (actual, actual_reason, message) = condition(&status, "WorkersReady");
        assert_eq!((actual, actual_reason), ("True", reason), "{message}");
    }
}

#[test]
fn workers_are_ready_only_when_all_desired_ones_run_the_current_spec() {
    let table = [
        (
            deployment(
                2,
                &json!({"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2, "readyReplicas": 2}),
            ),
            "RollingOut",
        ),
        (deployment(1, &json!({})), "RollingOut"),
        (
            deployment(
                1,
                &json!({"observedGeneration": 1, "replicas": 3, "updatedReplicas": 2, "availableReplicas": 3, "readyReplicas": 3}),
            ),
            "RollingOut",
        ),
        (
            deployment(
                1,
                &json!({"observedGeneration": 1, "replicas": 2, "updatedReplicas": 1, "availableReplicas": 2, "readyReplicas": 2}),
            ),
            "RollingOut",
        ),
        (
            deployment(
                1,
                &json!({"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 1, "readyReplicas": 1}),
            ),
            "Unavailable",
        ),
        (
            deployment(
                1,
                &json!({"observedGeneration": 1, "conditions": [{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "quota"}]}),
            ),
            "FailedCreate",
        ),
    ];
    for (deployment, reason) in table {
        let status = of(&example::pipeline(), Ok(&applied(deployment.clone())), &Observed::default(), now());
        assert_eq!(condition(&status, "WorkersReady").0, "False", "{deployment:?}");
        assert_eq!(condition(&status, "WorkersReady").1, reason, "{deployment:?}");
        assert_eq!(condition(&status, "Ready"), condition(&status, "WorkersReady"));
        assert_eq!(condition(&status, "Reconciling").0, "True");
    }
}

#[test]
fn a_stuck_pod_and_an_unready_worker_are_reported_with_their_reason() {
    let waiting = json!({"phase": "Pending", "containerStatuses": [{"name": "worker", "image": "i:1", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}]});
    let stuck = Observed {
        children: Children {
            pods: vec![worker_pod("w-1", &waiting)],
            ..Children::default()
        },
        ..Observed::default()
    };
    let status = of(&example::pipeline(), Ok(&applied(healthy())), &stuck, now());
    assert_eq!(
        condition(&status, "WorkersReady"),
        ("False", "ImagePullBackOff", "pod w-1 cannot pull its image i:1: no such image")
    );

    let message = "Secret `postgres-credentials` has no key `password`";
    let report = WorkerReport {
        ready: false,
        reason: "CredentialsMissing".into(),
        message: message.into(),
        ..WorkerReport::default()
    };
    let unready = Observed {
        children: Children {
            pods: vec![worker_pod("w-1", &json!({"phase": "Running"}))],
            ..Children::default()
        },
        reports: BTreeMap::from([("w-1".to_owned(), report)]),
    };
    let status = of(
        &example::pipeline(),
        Ok(&applied(deployment(
            1,
            &json!({"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2}),
        ))),
        &unready,
        now(),
    );
    assert_eq!(condition(&status, "WorkersReady"), ("False", "CredentialsMissing", message));
}

#[test]
fn without_an_applied_schema_nothing_is_ready() {
    let table = [
        (Finding::Applying(None), "Applying"),
        (
            Finding::Applying(Some(("ImagePullBackOff".into(), "no such image".into()))),
            "ImagePullBackOff",
        ),
        (Finding::Waiting, "Applying"),
        (Finding::Failed, "RegistryUnreachable"),
    ];
    for (finding, reason) in table {
        let mut applied = applied(healthy());
        applied.decisions.schema.finding = finding;
        applied.decisions.schema.status.failure_reason = Some("RegistryUnreachable".into());
        let status = of(&example::pipeline(), Ok(&applied), &Observed::default(), now());
        assert_eq!(
            (condition(&status, "SchemaReady").0, condition(&status, "SchemaReady").1),
            ("False", reason)
        );
        assert_eq!(condition(&status, "Ready"), condition(&status, "SchemaReady"));
        assert_eq!(condition(&status, "ScheduleReady").1, "WaitingForSchema");
        assert_eq!(condition(&status, "WorkersReady").1, "WaitingForSchema");
        assert_eq!(condition(&status, "TopicReady").0, "Unknown");
    }
}

#[test]
fn the_last_failure_of_a_schema_job_is_reported_during_the_retry() {
    let mut retrying = applied(healthy());
    retrying.decisions.schema.finding = Finding::Applying(None);
    retrying.decisions.schema.status.failed_attempts = 1;
    retrying.decisions.schema.status.failure_reason = Some("RegistryUnreachable".into());
    retrying.decisions.schema.status.failure_message = Some("no route".into());
    let status = of(&example::pipeline(), Ok(&retrying), &Observed::default(), now());
    assert_eq!(condition(&status, "SchemaReady"), ("False", "RegistryUnreachable", "no route"));
}

#[test]
fn what_a_failed_schema_job_reports_of_the_topic_stays_for_that_generation() {
    let mut failed = applied(healthy());
    failed.decisions.schema.finding = Finding::Failed;
    failed.decisions.schema.topic_ready = Some(true);
    let mut pipeline = example::pipeline();
    pipeline.status = Some(of(&pipeline, Ok(&failed), &Observed::default(), now()));
    failed.decisions.schema.topic_ready = None;
    assert_eq!(
        condition(&of(&pipeline, Ok(&failed), &Observed::default(), now()), "TopicReady").0,
        "True"
    );
    pipeline.metadata.generation = Some(2);
    assert_eq!(
        condition(&of(&pipeline, Ok(&failed), &Observed::default(), now()), "TopicReady").0,
        "Unknown"
    );
}

#[test]
fn a_child_that_cannot_be_applied_makes_the_pipeline_unready() {
    type Break = fn(&mut Applied);
    let cases: [(&str, Break); 4] = [
        ("SchemaReady", |applied| applied.schema = Err(failure())),
        ("ScheduleReady", |applied| applied.schedule = Err(failure())),
        ("WorkersReady", |applied| applied.workers = Err(failure())),
        ("Ready", |applied| applied.account = Err(failure())),
    ];
    for (type_, fail) in cases {
        let mut applied = applied(healthy());
        fail(&mut applied);
        let status = of(&example::pipeline(), Ok(&applied), &Observed::default(), now());
        assert_eq!(
            (condition(&status, type_).0, condition(&status, type_).1),
            ("False", "NotOurs"),
            "{type_}"
        );
        assert_eq!(condition(&status, "Ready").1, "NotOurs");
    }
}

fn run(name: &str, ended: &Value) -> Arc<Job> {
    let labels = labels::labels("users", labels::Component::Ingest);
    Arc::new(serde_json::from_value(json!({"metadata": {"name": name, "uid": name, "labels": labels}, "status": ended})).unwrap())
}

fn run_pod(job: &str, message: &str) -> Arc<Pod> {
    let mut labels = labels::labels("users", labels::Component::Ingest);
    labels.insert("batch.kubernetes.io/controller-uid".into(), job.into());
    let state = json!({"terminated": {"exitCode": 0, "finishedAt": "2025-01-01T00:00:30Z", "message": message}});
    Arc::new(
        serde_json::from_value(json!({"metadata": {"name": format!("{job}-x"), "labels": labels},
            "status": {"phase": "Succeeded", "containerStatuses": [{"name": "ingest", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state}]}}))
        .unwrap(),
    )
}

#[test]
fn the_last_run_is_reported_and_retained() {
    let complete = json!({"startTime": "2025-01-01T00:00:01Z", "completionTime": "2025-01-01T00:00:31Z", "conditions": [{"type": "Complete", "status": "True"}]});
    let message = r#"{"runId":"r","reason":"Completed","message":"10 landed","landed":10,"published":9,"rejected":1,"totalFetched":110}"#;
    let first = Observed {
        children: Children {
            jobs: vec![run("users-ingest-28928160", &complete)],
            pods: vec![run_pod("users-ingest-28928160", message)],
            ..Children::default()
        },
        ..Observed::default()
    };
    let mut pipeline = example::pipeline();
    let status = of(&pipeline, Ok(&applied(healthy())), &first, now());
    let last = status.last_run.clone().unwrap();
    assert_eq!(
        (
            last.outcome.as_str(),
            last.reason.as_str(),
            last.landed,
            last.published,
            last.rejected
        ),
        ("Succeeded", "Completed", 10, 9, 1)
    );
    assert_eq!(last.scheduled_at.unwrap().0, "2025-01-01T00:00:00Z".parse().unwrap());
    assert_eq!(status.totals.as_ref().unwrap().fetched, 110);

    pipeline.status = Some(status.clone());
    for gone in [
        Observed {
            children: Children {
                jobs: first.children.jobs.clone(),
                ..Children::default()
            },
            ..Observed::default()
        },
        Observed::default(),
    ] {
        assert_eq!(
            of(&pipeline, Ok(&applied(healthy())), &gone, now()),
            status,
            "the record stays when pod and Job are gone"
        );
    }
}

#[test]
fn a_failed_run_is_reported_and_does_not_make_the_pipeline_unready() {
    let totals = Totals {
        fetched: 110,
        ..Totals::default()
    };
    let mut pipeline = example::pipeline();
    pipeline.status.get_or_insert_default().totals = Some(totals);
    let failed = json!({"startTime": "2025-01-01T00:05:01Z",
        "conditions": [{"type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "too long", "lastTransitionTime": "2025-01-01T00:06:00Z"}]});
    let observed = Observed {
        children: Children {
            jobs: vec![run("users-ingest-28928165", &failed)],
            ..Children::default()
        },
        ..Observed::default()
    };
    let status = of(&pipeline, Ok(&applied(healthy())), &observed, now());
    let last = status.last_run.as_ref().unwrap();
    assert_eq!(
        (last.outcome.as_str(), last.reason.as_str(), last.message.as_str()),
        ("Failed", "DeadlineExceeded", "too long")
    );
    assert_eq!(condition(&status, "Ready").0, "True");
    assert_eq!(status.totals.unwrap().fetched, 110, "totals never decrease");
}

#[test]
fn a_status_that_is_computed_twice_is_the_same() {
    let mut pipeline = example::pipeline();
    pipeline.spec.schedule.as_mut().unwrap().cron = "@yearly".into();
    pipeline.status = Some(of(&pipeline, Ok(&applied(healthy())), &Observed::default(), now()));
    let later = now() + jiff::SignedDuration::from_hours(1);
    assert_eq!(
        Some(of(&pipeline, Ok(&applied(healthy())), &Observed::default(), later)),
        pipeline.status
    );
}

#[test]
fn active_pipelines_are_reconciled_often_and_idle_ones_seldom() {
    let mut pipeline = example::pipeline();
    assert_eq!(
        requeue_after(&pipeline, Ok(&applied(healthy())), &Observed::default(), now()),
        MEASURE_EVERY
    );
    pipeline.spec.suspend = true;
    assert_eq!(
        requeue_after(&pipeline, Ok(&applied(stopped())), &Observed::default(), now()),
        RESYNC
    );
    let measured = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now());
    pipeline.status.get_or_insert_default().measured_at = Some(measured);
    assert_eq!(
        requeue_after(&pipeline, Ok(&applied(stopped())), &Observed::default(), now()),
        MEASURE_EVERY
    );
    pipeline.status = None;
    let mut waiting = applied(stopped());
    waiting.decisions.schema.requeue = Some(Duration::from_secs(3));
    assert_eq!(
        requeue_after(&pipeline, Ok(&waiting), &Observed::default(), now()),
        Duration::from_secs(3)
    );
}

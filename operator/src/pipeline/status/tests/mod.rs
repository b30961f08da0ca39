//! Conditions, as tables.

mod invalid;
mod runs;
mod suspension;
mod version;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::{apps::v1::Deployment, batch::v1::Job, core::v1::Pod};
use serde_json::{Value, json};
use userpipeline_api::{ScheduleStatus, SchemaStatus, UserPipeline, UserPipelineStatus, names::PipelineId, report::WorkerReport};

use super::pipeline_status::RESYNC;
use super::{MEASURE_EVERY, requeue_after};
use crate::pipeline::{
    apply::{Applied, ApplyError},
    children::Children,
    decide::{Decisions, schedule, schema, schema::Finding},
    example,
    model::labels,
    observe::{Observed, run_jobs},
    validate::ValidateError,
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
        topics: Ok(()),
        schema: Ok(()),
        kafka_user: Ok(()),
        drained: Ok(()),
        schedule: Ok(Some(Arc::default())),
        started: Ok(()),
        workers: Ok(Some(Arc::new(deployment))),
        leftovers: Vec::new(),
        overridden: Vec::new(),
    }
}

fn worker_pod(name: &str, status: &Value) -> Arc<Pod> {
    let labels = labels::labels("users", labels::Component::Worker);
    Arc::new(serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}, "status": status})).unwrap())
}

fn condition<'a>(status: &'a UserPipelineStatus, type_: &str) -> (&'a str, &'a str, &'a str) {
    let found = status.conditions.iter().find(|c| c.type_ == type_);
    let found = found.unwrap_or_else(|| panic!("{type_} is missing"));
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
fn a_paused_deployment_is_reported_only_while_workers_lack_the_current_spec() {
    let paused = |updated: i32| {
        let mut deployment = deployment(
            1,
            &json!({"observedGeneration": 1, "replicas": 2, "updatedReplicas": updated, "availableReplicas": 2, "readyReplicas": 2}),
        );
        deployment.metadata.namespace = Some("demo".into());
        deployment.spec.as_mut().unwrap().paused = Some(true);
        of(&example::pipeline(), Ok(&applied(deployment)), &Observed::default(), now())
    };
    let behind = paused(0);
    let (status, reason, message) = condition(&behind, "WorkersReady");
    assert_eq!((status, reason), ("False", "DeploymentPaused"));
    assert!(
        message.contains("kubectl rollout resume deployment/users-worker -n demo"),
        "{message}"
    );
    assert_eq!(condition(&paused(2), "WorkersReady").0, "True");
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
        ..Observed::default()
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
fn messages_without_an_order_are_reported_by_ready_workers() {
    let workers = |has_unordered_messages| {
        let report = WorkerReport {
            ready: true,
            has_unordered_messages,
            ..WorkerReport::default()
        };
        let observed = Observed {
            reports: BTreeMap::from([("w-1".to_owned(), report)]),
            ..Observed::default()
        };
        let status = of(&example::pipeline(), Ok(&applied(healthy())), &observed, now());
        let (status, reason, message) = condition(&status, "WorkersReady");
        assert_eq!((status, reason), ("True", "WorkersReady"));
        message.to_owned()
    };
    assert!(workers(true).contains("on several partitions"));
    assert_eq!(workers(false), "2 of 2 workers are ready");
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

#[test]
fn a_job_that_cannot_be_ended_is_an_error_of_its_step() {
    for (component, failed) in [
        (labels::Component::Schema, "SchemaReady"),
        (labels::Component::Ingest, "ScheduleReady"),
        (labels::Component::Drain, "Suspended"),
    ] {
        let mut pipeline = example::pipeline();
        pipeline.spec.suspend = component == labels::Component::Drain;
        let job: Job = serde_json::from_value(json!({"metadata": {"labels": labels::labels("users", component)}})).unwrap();
        let applied = applied(healthy()).with_not_ended(vec![(Arc::new(job), failure())]);
        let status = of(&example::pipeline(), Ok(&applied), &Observed::default(), now());
        for type_ in ["SchemaReady", "ScheduleReady", "WorkersReady"] {
            let (value, reason, _) = condition(&status, type_);
            assert_eq!(
                (value == "False", reason == "NotOurs"),
                (type_ == failed, type_ == failed),
                "{type_}"
            );
        }
        assert_eq!(applied.errors().count(), 1);
    }
}

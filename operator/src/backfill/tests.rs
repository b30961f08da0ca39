//! Objects and conditions, as tables.

use serde_json::json;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::CronJob;
use userpipeline_api::{UserPipeline, UserPipelineBackfill, UserPipelineBackfillStatus};

use super::{
    decide::Decision,
    obstacle::{Obstacle, find_obstacle},
    status::{backfill_status, event},
};
use crate::pipeline::{NewRun, backfill_job};

fn backfill(more: &serde_json::Value) -> UserPipelineBackfill {
    let mut spec = json!({"pipelineRef": {"name": "users"}, "from": "2024-01-02T00:00:00Z", "to": "2024-01-07T00:00:00Z"});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(json!({"apiVersion": "userpipeline.dev/v1alpha1", "kind": "UserPipelineBackfill",
        "metadata": {"name": "january", "namespace": "demo", "uid": "u", "generation": 1}, "spec": spec}))
    .unwrap()
}

fn cron_job() -> CronJob {
    serde_json::from_value(
        json!({"metadata": {"name": "users-ingest"}, "spec": {"schedule": "@daily", "jobTemplate": {
        "metadata": {"labels": {"userpipeline.dev/pipeline": "users"}},
        "spec": {"backoffLimit": 2, "template": {"spec": {"containers": [{"name": "ingest", "args": ["--job", "$(JOB_NAME)"]}]}}}}}}),
    )
    .unwrap()
}

#[test]
fn the_job_of_a_run_is_the_cron_jobs_with_the_arguments_of_the_run() {
    let run = NewRun {
        job: Some("users-bf-1-2".into()),
        run_id: "2024-01-03T00:00:00Z".into(),
        kind: userpipeline_api::RunKind::Backfill,
        interval: Some(userpipeline_api::DataInterval {
            start: "2024-01-02T00:00:00Z".parse().unwrap(),
            end: "2024-01-03T00:00:00Z".parse().unwrap(),
        }),
        arguments: [("region".to_owned(), "eu".to_owned())].into(),
        nonce: None,
    };
    insta::assert_yaml_snapshot!(backfill_job(&backfill(&json!({})), &cron_job().spec.unwrap().job_template, &run));
}

#[test]
fn each_obstacle_is_reported() {
    let pipeline = |change: &dyn Fn(&mut UserPipeline)| {
        let mut pipeline = crate::pipeline::example();
        change(&mut pipeline);
        Some(pipeline)
    };
    let as_it_is = pipeline(&|_| {});
    let table = vec![
        (json!({}), None, true, "PipelineMissing", "False"),
        (json!({}), as_it_is.clone(), false, "PipelineNotReady", "False"),
        (
            json!({}),
            pipeline(&|p| p.spec.schedule.as_mut().unwrap().cron = "nonsense".into()),
            true,
            "PipelineNotReady",
            "False",
        ),
        (json!({}), pipeline(&|p| p.spec.suspend = true), true, "PipelineSuspended", "False"),
        (json!({"suspend": true}), as_it_is.clone(), true, "Suspended", "False"),
        (json!({"arguments": {"x": "1"}}), as_it_is.clone(), true, "InvalidArguments", "True"),
        (json!({}), as_it_is, true, "Running", "False"),
    ];
    for (more, pipeline, there, reason, stalled) in table {
        let (backfill, cron_job) = (backfill(&more), cron_job());
        let (_, obstacle) = find_obstacle(&backfill, pipeline.as_ref(), there.then_some(&cron_job), true);
        let status = backfill_status(
            &backfill,
            &Decision::default(),
            obstacle.as_ref(),
            None,
            None,
            Timestamp::UNIX_EPOCH,
        );
        let find = |type_: &str| status.conditions.iter().find(|c| c.type_ == type_).unwrap().clone();
        assert_eq!(
            (find("Complete").status.as_str(), find("Complete").reason.as_str()),
            ("False", reason),
            "{more}"
        );
        assert_eq!(find("Stalled").status, stalled, "{reason}");
        assert_eq!(
            find("Reconciling").status,
            if reason == "Running" { "True" } else { "False" },
            "{reason}"
        );
    }
}

#[test]
fn no_run_starts_under_a_service_account_that_is_not_the_pipelines_own() {
    let (backfill, pipeline, cron_job) = (backfill(&json!({})), crate::pipeline::example(), cron_job());
    let (_, obstacle) = find_obstacle(&backfill, Some(&pipeline), Some(&cron_job), false);
    let Some(Obstacle::PipelineNotReady(why)) = obstacle else {
        panic!("{obstacle:?}")
    };
    assert!(why.contains("ServiceAccount"), "{why}");
}

#[test]
fn a_run_whose_pod_is_refused_is_reported() {
    let problem = ("FailedCreate".to_owned(), "exceeded quota: small".to_owned());
    let status = backfill_status(
        &backfill(&json!({})),
        &Decision::default(),
        None,
        None,
        Some(&problem),
        Timestamp::UNIX_EPOCH,
    );
    let complete = status.conditions.iter().find(|c| c.type_ == "Complete").unwrap();
    assert_eq!(
        (complete.reason.as_str(), complete.message.as_str()),
        ("FailedCreate", "exceeded quota: small")
    );
}

#[test]
fn the_end_is_published_once() {
    let ended = |failed| {
        let decision = Decision {
            complete: true,
            status: UserPipelineBackfillStatus {
                failed,
                ..UserPipelineBackfillStatus::default()
            },
            ..Decision::default()
        };
        backfill_status(&backfill(&json!({})), &decision, None, None, None, Timestamp::UNIX_EPOCH)
    };
    let nothing = UserPipelineBackfillStatus::default();
    assert_eq!(event(&nothing, &ended(0)).unwrap().reason, "Completed");
    assert_eq!(event(&nothing, &ended(2)).unwrap().reason, "CompletedWithFailures");
    assert!(event(&ended(2), &ended(2)).is_none());
}

//! Which Jobs to end because an injected container keeps their pods running. Pure.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;

use crate::pipeline::{
    model::elapsed,
    observe::{ContainerEnd, Observed, held_open},
};

/// Injected containers have this long to end after the Job's own one.
const GRACE: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// Jobs to end, with the results to write to them.
    pub end: Vec<(Arc<Job>, ContainerEnd)>,
    /// When to reconcile again: no event reports that the grace is over.
    pub requeue: Option<Duration>,
}

pub fn decide(observed: &Observed, now: Timestamp) -> Decision {
    let mut decision = Decision::default();
    for job in &observed.children.jobs {
        let Some(end) = held_open(observed, job) else { continue };
        let left = GRACE.saturating_sub(elapsed(end.at(), now));
        // Also after the end: the Job may have changed, so that it must be ended again.
        let again = if left.is_zero() { GRACE } else { left };
        decision.requeue = Some(decision.requeue.map_or(again, |wait| wait.min(again)));
        if left.is_zero() {
            decision.end.push((job.clone(), end));
        }
    }
    decision
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use userpipeline_api::{RunOutcome, report::SchemaReport};

    use super::*;
    use crate::pipeline::{
        children::Children,
        model::labels,
        observe::{Progress, run_jobs, schema_jobs},
    };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn job(component: labels::Component) -> Value {
        let mut labels = labels::labels("users", component);
        labels.insert(labels::SCHEMA_HASH.into(), "h".into());
        json!({"metadata": {"name": "j", "uid": "u", "labels": labels}, "spec": {"template": {}}, "status": {"startTime": at(-60).to_string()}})
    }

    /// A Job whose own container ended at second 0 while the proxy does `proxy`.
    fn observed(job: &Value, exit_code: i32, message: &str, proxy: &Value) -> Observed {
        let mut labels = job["metadata"]["labels"].clone();
        labels["batch.kubernetes.io/controller-uid"] = json!("u");
        let owners = json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "u", "controller": true}]);
        let own =
            json!({"terminated": {"exitCode": exit_code, "reason": "Completed", "finishedAt": at(0).to_string(), "message": message}});
        let status = |name: &Value, state: &Value| json!({"name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state});
        let pod = json!({"metadata": {"name": "p", "labels": labels, "ownerReferences": owners}, "status": {"phase": "Running", "containerStatuses":
            [status(&labels[labels::COMPONENT], &own), status(&json!("proxy"), proxy)]}});
        Observed {
            children: Children {
                jobs: vec![Arc::new(serde_json::from_value(job.clone()).unwrap())],
                pods: vec![Arc::new(serde_json::from_value(pod).unwrap())],
                ..Children::default()
            },
            ..Observed::default()
        }
    }

    /// The Job as the operator and then Kubernetes leave it: its pod is gone.
    fn ended(job: &Value, decision: &Decision) -> Observed {
        let mut job = job.clone();
        job["metadata"]["annotations"] = json!({labels::CONTAINER_END: serde_json::to_string(&decision.end[0].1).unwrap()});
        job["status"]["conditions"] =
            json!([{"type": "Failed", "status": "True", "reason": "DeadlineExceeded", "lastTransitionTime": at(40).to_string()}]);
        let mut observed = observed(&job, 0, "", &json!({}));
        observed.children.pods.clear();
        observed
    }

    #[test]
    fn a_job_that_only_a_sidecar_keeps_running_is_ended_after_half_a_minute() {
        let job = job(labels::Component::Ingest);
        let running = json!({"running": {}});
        let held = observed(&job, 0, "", &running);
        assert_eq!(
            decide(&held, at(10)),
            Decision {
                end: vec![],
                requeue: Some(Duration::from_secs(20))
            }
        );
        assert_eq!(decide(&held, at(30)).end.len(), 1);
        for done in [json!({"terminated": {"exitCode": 0}}), json!({"terminated": {"exitCode": 143}})] {
            assert_eq!(decide(&observed(&job, 0, "", &done), at(90)), Decision::default());
        }
        for (field, value) in [
            ("/metadata/deletionTimestamp", json!(at(1).to_string())),
            ("/spec/suspend", json!(true)),
            ("/status/conditions", json!([{"type": "Failed", "status": "True"}])),
        ] {
            let mut other = job.clone();
            let (object, key) = field.rsplit_once('/').unwrap();
            other.pointer_mut(object).unwrap()[key] = value;
            assert_eq!(decide(&observed(&other, 0, "", &running), at(90)), Decision::default(), "{field}");
        }
    }

    #[test]
    fn the_result_of_an_ended_job_is_that_of_its_own_container() {
        let running = json!({"running": {}});
        let job = job(labels::Component::Ingest);
        let report = r#"{"runId":"r","reason":"Completed","message":"10 landed","landed":10}"#;
        let decision = decide(&observed(&job, 0, report, &running), at(31));
        let run = run_jobs("users-ingest", &ended(&job, &decision)).pop().unwrap().ended.unwrap();
        assert_eq!(
            (run.outcome, run.landed, run.finished_at.unwrap().0),
            (RunOutcome::Succeeded, 10, at(0))
        );
        assert!(
            run.message
                .starts_with("10 landed; the operator ended the Job because container proxy"),
            "{}",
            run.message
        );
        assert!(run.message.contains("native sidecar"), "{}", run.message);

        let decision = decide(&observed(&job, 1, "", &running), at(31));
        let run = run_jobs("users-ingest", &ended(&job, &decision)).pop().unwrap().ended.unwrap();
        assert_eq!(run.outcome, RunOutcome::Failed);
        assert!(
            run.message
                .starts_with("pod p ended with exit code 1; the operator ended the Job without further attempts"),
            "{}",
            run.message
        );

        let schema = self::job(labels::Component::Schema);
        let decision = decide(
            &observed(&schema, 0, r#"{"reason":"Applied","message":"","schemaId":7}"#, &running),
            at(31),
        );
        let jobs = schema_jobs(&ended(&schema, &decision));
        assert!(
            matches!(
                &jobs[0].progress,
                Progress::Succeeded {
                    report: SchemaReport { schema_id: Some(7), .. },
                    ..
                }
            ),
            "{jobs:?}"
        );
    }

    #[test]
    fn a_job_that_failed_only_because_of_its_sidecar_has_succeeded() {
        let mut job = job(labels::Component::Ingest);
        job["status"]["conditions"] = json!([{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]);
        let failed = json!({"terminated": {"exitCode": 3}});
        let report = r#"{"runId":"r","reason":"Completed","message":"10 landed","landed":10}"#;
        let run = run_jobs("users-ingest", &observed(&job, 0, report, &failed))
            .pop()
            .unwrap()
            .ended
            .unwrap();
        assert_eq!((run.outcome, run.landed), (RunOutcome::Succeeded, 10));
        assert_eq!(
            run.message,
            "10 landed; for Kubernetes the Job failed, because of container proxy (exit code 3)"
        );
    }
}

//! A fake kubelet. The pods of a trial fit no node; it reports them as running, or as completed at once.

use futures::StreamExt;
use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::{Value, json};
use userpipeline_api::report::{ConnectionReport, DeletionReport, DrainReport, InspectionReport, RunReport, SchemaReport};

use crate::strimzi::in_memory::InMemoryKafka;

const KAFKA_CLUSTER: &str = "kafka";

/// Serves the pods of a namespace until it is aborted. What Jobs read in Kafka is in `kafka`.
pub async fn run(client: Client, namespace: String, kafka: InMemoryKafka) {
    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    watcher(pods.clone(), watcher::Config::default())
        .default_backoff()
        .applied_objects()
        .for_each(|event| async {
            if let Ok(pod) = event
                && let Some(status) = status(&pod, &kafka)
            {
                // A pod that is gone or has changed comes with another event.
                let _ = pods
                    .patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(json!({"status": status})))
                    .await;
            }
        })
        .await;
}

/// The next status of a pod, if it needs one.
fn status(pod: &Pod, kafka: &InMemoryKafka) -> Option<Value> {
    let old = pod.status.clone().unwrap_or_default();
    let is_finished = matches!(old.phase.as_deref(), Some("Succeeded" | "Failed"));
    let unscheduled = old
        .conditions
        .iter()
        .flatten()
        .any(|c| c.type_ == "PodScheduled" && c.status != "True");
    let component = pod.labels().get("app.kubernetes.io/component")?;
    let now = Timestamp::now();
    let scheduled = json!({"type": "PodScheduled", "status": "True"});
    if component == "worker" {
        let runs = old.phase.as_deref() == Some("Running") && !unscheduled;
        return (!runs).then(|| {
            json!({"phase": "Running", "startTime": now, "conditions": [
                scheduled, {"type": "Ready", "status": "True"}, {"type": "ContainersReady", "status": "True"}, {"type": "Initialized", "status": "True"}],
            "containerStatuses": [{"name": "worker", "image": "", "imageID": "", "ready": true, "restartCount": 0, "started": true, "state": {"running": {"startedAt": now}}}]})
        });
    }
    if is_finished || pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let message = report(component, pod, kafka);
    Some(json!({"phase": "Succeeded", "startTime": now, "conditions": [scheduled],
        "containerStatuses": [{"name": component, "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": now, "finishedAt": now, "message": message.to_string()}}}]}))
}

/// The report of a Job's program.
fn report(component: &str, pod: &Pod, kafka: &InMemoryKafka) -> Value {
    match component {
        "schema" => json!(SchemaReport {
            reason: "Applied".to_owned(),
            topic_ready: Some(true),
            kafka_cluster: Some(KAFKA_CLUSTER.to_owned()),
            partitions: Some(6),
            schema_id: Some(7),
            ..SchemaReport::default()
        }),
        "inspection" => json!(InspectionReport {
            reason: "Inspected".to_owned(),
            message: "inspected".to_owned(),
            kafka_cluster: Some(KAFKA_CLUSTER.to_owned()),
            existing: kafka.topics(),
        }),
        "drain" => json!(DrainReport {
            reason: "Drained".to_owned(),
            message: "drained".to_owned(),
            ..DrainReport::default()
        }),
        "check" => json!(ConnectionReport {
            reason: "Checked".to_owned(),
            message: "checked".to_owned(),
            ..ConnectionReport::default()
        }),
        "deletion" => json!(DeletionReport {
            reason: "Deleted".to_owned(),
            message: "deleted".to_owned(),
        }),
        _ => json!(RunReport {
            reason: "Completed".to_owned(),
            run_id: run_id(pod),
            attempt: 1,
            landed: 1,
            ..RunReport::default()
        }),
    }
}

/// The value of `--run-id`.
fn run_id(pod: &Pod) -> String {
    let arguments = pod.spec.iter().flat_map(|spec| spec.containers[0].args.iter().flatten());
    let value = arguments.skip_while(|argument| *argument != "--run-id").nth(1);
    value.cloned().unwrap_or_else(|| "manual".to_owned())
}

//! Stands in for the kubelet: the pods of a trial fit no node, and do at once what they are for.

use futures::StreamExt;
use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::{Value, json};
use userpipeline_api::report::{DeletionReport, DrainReport, RunReport, SchemaReport};

/// Looks after the pods of a namespace until it is aborted.
pub async fn run(client: Client, namespace: String) {
    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    watcher(pods.clone(), watcher::Config::default())
        .default_backoff()
        .applied_objects()
        .for_each(|seen| async {
            if let Ok(pod) = seen
                && let Some(status) = status(&pod)
            {
                // Gone meanwhile, or changed: the watch tells.
                let _ = pods
                    .patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(json!({"status": status})))
                    .await;
            }
        })
        .await;
}

/// What is to be said of a pod, if it is not said yet.
fn status(pod: &Pod) -> Option<Value> {
    let old = pod.status.clone().unwrap_or_default();
    let is_over = matches!(old.phase.as_deref(), Some("Succeeded" | "Failed"));
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
    if is_over || pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let message = match component.as_str() {
        "schema" => json!(SchemaReport {
            reason: "Applied".to_owned(),
            topic_ready: Some(true),
            partitions: Some(6),
            schema_id: Some(7),
            ..SchemaReport::default()
        }),
        "drain" => json!(DrainReport {
            reason: "Drained".to_owned(),
            message: "drained".to_owned(),
            ..DrainReport::default()
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
    };
    Some(json!({"phase": "Succeeded", "startTime": now, "conditions": [scheduled],
        "containerStatuses": [{"name": component, "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": now, "finishedAt": now, "message": message.to_string()}}}]}))
}

/// What the pod was told, or its Job's uid.
fn run_id(pod: &Pod) -> String {
    let arguments = pod.spec.iter().flat_map(|spec| spec.containers[0].args.iter().flatten());
    let told = arguments.skip_while(|argument| *argument != "--run-id").nth(1);
    told.cloned().unwrap_or_else(|| "manual".to_owned())
}

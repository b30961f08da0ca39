//! Two controllers of the bench, in place of those of the cluster: these send 20 requests per second, so a thousand pipelines would
//! take ten minutes, whatever the operator does.

use std::time::Duration;

use anyhow::Result;
use futures::StreamExt;
use k8s_openapi::{
    api::{apps::v1::Deployment, batch::v1::Job, core::v1::Pod},
    jiff::Timestamp,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use serde_json::json;

/// The value of `spec.managedBy` of a Job that the cluster's controller leaves alone.
pub const MANAGED_BY: &str = "userpipeline.dev/bench";
const AT_ONCE: usize = 8;
/// Before the next attempt of a request that failed.
const PAUSE: Duration = Duration::from_millis(200);
const ATTEMPTS: usize = 5;

/// Creates a pod for each Job, completes the Job when a kubelet reports that the pod succeeded, and deletes the pod with its Job.
pub async fn complete_jobs(client: Client, namespace: String) {
    let jobs: Api<Job> = Api::namespaced(client.clone(), &namespace);
    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    let started = watcher(jobs.clone(), watcher::Config::default())
        .default_backoff()
        .for_each_concurrent(AT_ONCE, |event| async {
            match event {
                Ok(Event::Apply(job) | Event::InitApply(job)) if is_new(&job) => retry(|| create_pod(&pods, &job)).await,
                Ok(Event::Delete(job)) => retry(|| delete_pod(&pods, &job)).await,
                _ => {}
            }
        });
    let completed = watcher(pods.clone(), watcher::Config::default())
        .default_backoff()
        .applied_objects()
        .for_each_concurrent(AT_ONCE, |event| async {
            if let Ok(pod) = event
                && pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Succeeded")
                && let Some(owner) = pod.owner_references().iter().find(|owner| owner.kind == "Job")
            {
                retry(|| complete(&jobs, &owner.name)).await;
            }
        });
    futures::join!(started, completed);
}

/// Reports for each Deployment without replicas that its controller has observed the current spec.
pub async fn observe_deployments(client: Client, namespace: String) {
    let deployments: Api<Deployment> = Api::namespaced(client, &namespace);
    watcher(deployments.clone(), watcher::Config::default())
        .default_backoff()
        .applied_objects()
        .for_each_concurrent(AT_ONCE, |event| async {
            let Ok(deployment) = event else { return };
            let observed = deployment.status.as_ref().and_then(|status| status.observed_generation);
            if observed < deployment.metadata.generation {
                retry(|| observe(&deployments, &deployment)).await;
            }
        })
        .await;
}

/// An error that lasts shows as a pipeline that does not settle.
async fn retry<F: Future<Output = Result<()>>>(attempt: impl Fn() -> F) {
    for _ in 0..ATTEMPTS {
        match attempt().await {
            Ok(()) => return,
            Err(error) => eprintln!("{error:#}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// An object that is gone, or that exists already, needs nothing.
fn gone<T>(result: kube::Result<T>) -> Result<()> {
    match result {
        Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => Ok(()),
        result => Ok(result.map(drop)?),
    }
}

fn is_new(job: &Job) -> bool {
    let is_ours = job.spec.as_ref().and_then(|spec| spec.managed_by.as_deref()) == Some(MANAGED_BY);
    let is_started = job.status.as_ref().is_some_and(|status| status.start_time.is_some());
    is_ours && !is_started && job.metadata.deletion_timestamp.is_none()
}

async fn create_pod(pods: &Api<Pod>, job: &Job) -> Result<()> {
    let template = job.spec.as_ref().map(|spec| &spec.template);
    let mut spec = json!(template.and_then(|template| template.spec.as_ref()));
    // It fits no node, so that the cluster's scheduler would only report that, twice.
    spec["schedulerName"] = json!("none");
    let labels = template
        .and_then(|template| template.metadata.as_ref())
        .and_then(|meta| meta.labels.clone());
    let pod = json!({
        "metadata": {"name": job.name_any(), "labels": labels, "ownerReferences": [job.controller_owner_ref(&())]},
        "spec": spec,
    });
    gone(pods.create(&PostParams::default(), &serde_json::from_value(pod)?).await)
}

async fn delete_pod(pods: &Api<Pod>, job: &Job) -> Result<()> {
    let at_once = DeleteParams::default().grace_period(0);
    gone(pods.delete(&job.name_any(), &at_once).await)
}

async fn complete(jobs: &Api<Job>, name: &str) -> Result<()> {
    let now = Timestamp::now();
    let condition = |type_: &str| json!({"type": type_, "status": "True", "lastTransitionTime": now});
    let status = json!({"status": {
        "startTime": now, "completionTime": now, "succeeded": 1, "ready": 0, "terminating": 0, "uncountedTerminatedPods": {},
        "conditions": [condition("SuccessCriteriaMet"), condition("Complete")],
    }});
    match jobs.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await {
        // It is complete already, and its completion time cannot change.
        Err(kube::Error::Api(status)) if status.code == 422 => Ok(()),
        result => gone(result),
    }
}

async fn observe(deployments: &Api<Deployment>, deployment: &Deployment) -> Result<()> {
    let status = json!({"status": {"observedGeneration": deployment.metadata.generation}});
    let patch = Patch::Merge(status);
    gone(
        deployments
            .patch_status(&deployment.name_any(), &PatchParams::default(), &patch)
            .await,
    )
}

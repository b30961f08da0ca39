//! Fields of our children that webhooks and other people set.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use k8s_openapi::{
    api::{apps::v1::Deployment, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use userpipeline_api::names;
use userpipeline_tests::{World, eventually, webhook::Webhook, world::SOON};

use super::plans::plan;

/// A limit that a policy enforces.
const LIMIT: &str = "300Mi";

fn raise_limit(deployment: &Value) -> Value {
    let path = "/spec/template/spec/containers/0/resources/limits/memory";
    if deployment.pointer(path) == Some(&json!(LIMIT)) {
        return Value::Null;
    }
    json!([{"op": "replace", "path": path, "value": LIMIT}])
}

/// The generation, and the time of the last write by anyone but the Deployment's controller.
fn last_write(deployment: &Deployment) -> (Option<i64>, Option<Time>) {
    let fields = deployment.managed_fields().iter().filter(|entry| entry.subresource.is_none());
    (deployment.metadata.generation, fields.filter_map(|entry| entry.time.clone()).max())
}

/// Waits for an Event of the pipeline with this reason; returns its note.
async fn event(world: &World, reason: &str) -> Result<String> {
    eventually(&format!("the Event {reason}"), SOON, async || {
        let events = world.api::<Event>().list(&ListParams::default()).await?.items;
        let mut of_pipeline = events.into_iter().filter(|event| {
            event
                .regarding
                .as_ref()
                .is_some_and(|object| object.kind.as_deref() == Some("UserPipeline"))
        });
        let found = of_pipeline.find(|event| event.reason.as_deref() == Some(reason));
        Ok(found.and_then(|event| event.note).ok_or_else(|| "none".to_owned()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_changes_a_child_is_reported_and_causes_no_writes() -> Result<()> {
    // Given a webhook that raises a limit of Deployments
    let world = World::new("webhook").await?;
    let webhook = Webhook::start(&world, "Deployment", "deployments", raise_limit).await?;

    // When a pipeline is applied, Then it becomes ready, and an Event names the field
    world.apply(&world.pipeline()).await?;
    world.ready().await?;
    let note = event(&world, "Overridden").await?;
    let field = "Deployment users-worker: spec.template.spec.containers[worker].resources.limits.memory";
    assert!(note.contains(field), "{note}");

    // And reconciles, of which a run causes several, do not write the Deployment again
    let before = last_write(&world.workers().await?);
    world.run("run").await?;
    world.drained(200).await?;
    assert_eq!(last_write(&world.workers().await?), before);
    webhook.remove().await?;
    world.clean_up().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_change_in_the_workers_deployment_is_reported() -> Result<()> {
    // Given a ready pipeline
    let world = World::new("foreign").await?;
    let pipeline = world.pipeline();
    world.apply(&pipeline).await?;
    world.ready().await?;

    // When someone scales the Deployment, as an autoscaler that targets it does
    let name = names::workers("users");
    let deployments = world.api::<Deployment>();
    let replicas = world.workers().await?.spec.and_then(|spec| spec.replicas);
    let scale = Patch::Merge(json!({"spec": {"replicas": 3}}));
    let autoscaler = PatchParams {
        field_manager: Some("autoscaler".to_owned()),
        ..PatchParams::default()
    };
    deployments.patch_scale(&name, &autoscaler, &scale).await?;

    // Then an Event says so, and the number of workers is that of the spec
    let note = event(&world, "ScaledByOthers").await?;
    assert!(note.contains("autoscaler scales"), "{note}");
    eventually("the number of workers of the spec", SOON, async || {
        let found = world.workers().await?.spec.and_then(|spec| spec.replicas);
        Ok(if found == replicas { Ok(()) } else { Err(format!("{found:?}")) })
    })
    .await?;

    // When someone sets a variable of the workers, as `kubectl set env` does
    let variable = json!({"spec": {"template": {"spec": {"containers": [{"name": "worker", "env": [{"name": "HTTP_PROXY", "value": "http://127.0.0.1:9"}]}]}}}});
    let by = PatchParams {
        field_manager: Some("kubectl-set".to_owned()),
        ..PatchParams::default()
    };
    deployments.patch(&name, &by, &Patch::Strategic(variable)).await?;

    // Then an Event names the field and who set it, and so does a plan
    let note = event(&world, "ForeignFields").await?;
    assert!(note.contains("HTTP_PROXY") && note.contains("kubectl-set"), "{note}");
    let (code, output, errors) = plan(&pipeline, &[]).await?;
    assert_eq!(code, 1, "{output}{errors}");
    assert!(output.contains("HTTP_PROXY"), "{output}");
    world.clean_up().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_deployment_is_reported_with_the_command_that_resumes_it() -> Result<()> {
    // Given a ready pipeline whose Deployment someone paused
    let world = World::new("paused").await?;
    let mut pipeline = world.pipeline();
    world.apply(&pipeline).await?;
    world.ready().await?;
    let name = names::workers("users");
    let pause = |paused: bool| Patch::Merge(json!({"spec": {"paused": paused}}));
    let deployments = world.api::<Deployment>();
    deployments.patch(&name, &PatchParams::default(), &pause(true)).await?;

    // When the workers must be replaced, Then the pause is reported
    pipeline["spec"]["workers"] = json!({"batch": {"maxRecords": 17}});
    world.apply(&pipeline).await?;
    let (_, message) = world
        .condition_where("WorkersReady", "False", SOON, |reason, _| reason == "DeploymentPaused")
        .await?;
    assert!(message.contains(&format!("kubectl rollout resume deployment/{name}")), "{message}");

    // When it is resumed, Then the workers are replaced
    deployments.patch(&name, &PatchParams::default(), &pause(false)).await?;
    world.ready().await?;
    world.clean_up().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreground_deletion_ends_after_the_workers_have() -> Result<()> {
    // Given a ready pipeline
    let world = World::new("foreground").await?;
    world.apply(&world.pipeline()).await?;
    world.ready().await?;
    let workers: BTreeSet<String> = world.pods("worker").await?.iter().filter_map(ResourceExt::uid).collect();
    assert!(!workers.is_empty());

    // When it is deleted in the foreground, Then it exists as long as a worker does
    let pipelines = world.api::<userpipeline_api::UserPipeline>();
    pipelines.delete("users", &DeleteParams::foreground()).await?;
    eventually("the pipeline to be deleted", SOON, async || {
        let left: Vec<String> = world.pods("worker").await?.iter().filter_map(ResourceExt::uid).collect();
        let exists = pipelines.get_opt("users").await?.is_some();
        assert!(left.iter().all(|uid| workers.contains(uid)), "a worker was created again");
        Ok(if exists { Err(format!("{} workers", left.len())) } else { Ok(left) })
    })
    .await
    .context("deleting")?
    .is_empty()
    .then_some(())
    .context("a worker outlived its pipeline")?;
    world.clean_up().await
}

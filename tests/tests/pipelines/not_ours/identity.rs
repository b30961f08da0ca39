//! ServiceAccounts and pods with the names and labels of a pipeline's.

use anyhow::Result;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::{Value, json};
use userpipeline_api::UserPipelineStatus;
use userpipeline_tests::{World, eventually, world::SOON};

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_service_account_gets_no_pod() -> Result<()> {
    // Given a ServiceAccount with the name of a pipeline's
    let world = World::new("foreign-account").await?;
    let account: ServiceAccount = serde_json::from_value(json!({"metadata": {"name": "users-pods"}}))?;
    world.api::<ServiceAccount>().create(&PostParams::default(), &account).await?;

    // When the pipeline is applied, Then no pod starts
    world.apply(&world.pipeline()).await?;
    let is_foreign = |reason: &str, message: &str| reason == "NotOurs" && message.contains("users-pods");
    world.condition_where("Ready", "False", SOON, is_foreign).await?;
    for component in ["schema", "worker"] {
        assert!(world.pods(component).await?.is_empty(), "{component}");
    }

    // When it is deleted, Then the pipeline becomes ready
    world.api::<ServiceAccount>().delete("users-pods", &DeleteParams::default()).await?;
    world.ready().await?;
    world.clean_up().await
}

/// A worker of this pipeline, once it runs.
async fn worker(world: &World, pipeline: &str) -> Result<Pod> {
    let selector = ListParams::default().labels(&format!("userpipeline.dev/pipeline={pipeline},app.kubernetes.io/component=worker"));
    eventually(&format!("a worker of {pipeline} to run"), SOON, async || {
        let pods = world.api::<Pod>().list(&selector).await?.items;
        let is_running = |pod: &Pod| pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Running"));
        let count = pods.len();
        Ok(pods.into_iter().find(is_running).ok_or_else(|| format!("{count} pods")))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_worker_changes_neither_lag_nor_totals() -> Result<()> {
    // Given a pipeline with data, and another one
    let world = World::new("forged-worker").await?;
    let mut other = world.pipeline();
    other["metadata"]["name"] = json!("other");
    world.apply(&other).await?;
    world.apply(&world.pipeline()).await?;
    world.ready().await?;
    world.run("run").await?;
    world.drained(200).await?;
    let before = world.get().await?.status.unwrap_or_default();

    // When somebody runs a worker of the other pipeline, with the labels of the first one's
    let mut labels = worker(&world, "users").await?.metadata.labels.unwrap_or_default();
    labels.remove("pod-template-hash");
    let mut forged = serde_json::to_value(worker(&world, "other").await?)?;
    forged["metadata"] = json!({"name": "forged", "labels": labels});
    forged["spec"]["nodeName"] = Value::Null;
    forged["status"] = Value::Null;
    let forged: Pod = serde_json::from_value(forged)?;
    world.api::<Pod>().create(&PostParams::default(), &forged).await?;
    eventually("the forged worker to be ready", SOON, async || {
        let pod = world.api::<Pod>().get("forged").await?;
        let conditions = pod.status.and_then(|status| status.conditions).unwrap_or_default();
        let is_ready = conditions
            .iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True");
        Ok(if is_ready { Ok(()) } else { Err(format!("{conditions:?}")) })
    })
    .await?;

    // And more users arrive, so that lag and totals are measured again, Then both count what the first pipeline stored
    let mut pipeline = world.pipeline();
    pipeline["spec"]["source"]["http"]["query"][1]["value"] = json!(format!("{}-more", world.seed));
    world.apply(&pipeline).await?;
    world.ready().await?;
    world.run("more").await?;
    let stored = |status: &UserPipelineStatus| status.totals.as_ref().map_or(0, |totals| totals.stored);
    world.drained(2 * stored(&before)).await?;
    let after = world.get().await?.status.unwrap_or_default();
    assert_eq!((stored(&after), after.lag), (2 * stored(&before), before.lag));
    world.clean_up().await
}

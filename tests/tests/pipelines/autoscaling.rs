//! A HorizontalPodAutoscaler scales the workers by the lag that the operator exports.

use anyhow::{Context, Result};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::api::PostParams;
use serde_json::{Value, json};
use userpipeline_api::names;
use userpipeline_tests::{World, eventually, metrics_adapter::MetricsAdapter, stores, world::SOON};

/// The autoscaler of the guide, in the namespace of the test.
fn from_the_guide(namespace: &str) -> Result<Value> {
    let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/how-to/scale.md");
    let text = std::fs::read_to_string(guide)?.replace("demo", namespace);
    let (_, block) = text.split_once("```yaml\n").context("a manifest")?;
    let (block, _) = block.split_once("```").context("its end")?;
    Ok(serde_yaml::from_str(block)?)
}

async fn replicas(world: &World, expected: i32) -> Result<()> {
    eventually(&format!("{expected} workers"), 2 * SOON, async || {
        let requested = world.get().await?.spec.workers.replicas;
        let applied = world.workers().await?.spec.and_then(|spec| spec.replicas);
        let lag = world.get().await?.status.unwrap_or_default().lag;
        let scaler = world
            .api::<HorizontalPodAutoscaler>()
            .get("users")
            .await?
            .status
            .unwrap_or_default();
        Ok(if (requested, applied) == (expected, Some(expected)) {
            Ok(())
        } else {
            Err(format!(
                "spec {requested}, Deployment {applied:?}, lag {lag:?}, {:?}",
                scaler.conditions
            ))
        })
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_autoscaler_scales_with_the_lag_up_and_down() -> Result<()> {
    let world = World::new("autoscaling").await?;
    let adapter = MetricsAdapter::start(world.client.clone()).await?;
    let result = scale_with_the_lag(&world).await;
    // Also after a failure: while a registered API is not served, no namespace can be deleted.
    adapter.stop().await?;
    result?;
    world.clean_up().await
}

async fn scale_with_the_lag(world: &World) -> Result<()> {
    // Given a ready pipeline, and the autoscaler of the guide with a target of 50 records per worker
    let mut pipeline = world.pipeline();
    pipeline["spec"]["workers"] = json!({});
    world.apply(&pipeline).await?;
    world.ready().await?;
    let mut scaler = from_the_guide(&world.namespace)?;
    scaler["spec"]["minReplicas"] = json!(1);
    scaler["spec"]["maxReplicas"] = json!(3);
    scaler["spec"]["metrics"][0]["external"]["target"]["averageValue"] = json!("50");
    scaler["spec"]["behavior"] = json!({"scaleDown": {"stabilizationWindowSeconds": 0}});
    world
        .api::<HorizontalPodAutoscaler>()
        .create(&PostParams::default(), &serde_json::from_value(scaler)?)
        .await?;

    // When 200 records cannot be stored because the table is locked
    let mut holder = stores::postgres(&world.client).await?;
    let held = holder.transaction().await?;
    let table = names::postgres_table(&world.id());
    held.batch_execute(&format!("LOCK TABLE \"{table}\" IN ACCESS EXCLUSIVE MODE"))
        .await?;
    world.run("first").await?;

    // Then it scales to its maximum, and the operator follows
    replicas(world, 3).await?;

    // When the lock is released, Then all are stored, and it scales down
    held.rollback().await?;
    world.drained(200).await?;
    replicas(world, 1).await
}

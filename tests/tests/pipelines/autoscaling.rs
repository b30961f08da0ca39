//! An autoscaler of the cluster's own scales the workers by the lag that the operator exports.

use anyhow::{Context, Result};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::api::PostParams;
use serde_json::{Value, json};
use userpipeline_api::names;
use userpipeline_tests::{World, eventually, metrics_adapter::MetricsAdapter, stores, world::SOON};

/// The autoscaler as the guide has it, for a story's namespace.
fn from_the_guide(namespace: &str) -> Result<Value> {
    let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/how-to/scale.md");
    let text = std::fs::read_to_string(guide)?.replace("demo", namespace);
    let (_, block) = text.split_once("```yaml\n").context("a manifest")?;
    let (block, _) = block.split_once("```").context("its end")?;
    Ok(serde_yaml::from_str(block)?)
}

async fn replicas(world: &World, wanted: i32) -> Result<()> {
    eventually(&format!("{wanted} workers"), 2 * SOON, async || {
        let asked = world.get().await?.spec.workers.replicas;
        let made = world.workers().await?.spec.and_then(|spec| spec.replicas);
        let lag = world.get().await?.status.unwrap_or_default().lag;
        let scaler = world
            .api::<HorizontalPodAutoscaler>()
            .get("users")
            .await?
            .status
            .unwrap_or_default();
        Ok(if (asked, made) == (wanted, Some(wanted)) {
            Ok(())
        } else {
            Err(format!("spec {asked}, Deployment {made:?}, lag {lag:?}, {:?}", scaler.conditions))
        })
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_autoscaler_follows_the_lag_up_and_down_again() -> Result<()> {
    let world = World::new("autoscaling").await?;
    let adapter = MetricsAdapter::start(world.client.clone()).await?;
    let told = tell(&world).await;
    // Whatever came of it: while an API that nobody serves is registered, no namespace can go.
    adapter.stop().await?;
    told?;
    world.leave().await
}

async fn tell(world: &World) -> Result<()> {
    // Given a ready pipeline, and the guide's autoscaler aiming at 50 records for each worker
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

    // When 200 records cannot be stored, because somebody holds the table
    let mut holder = stores::postgres(&world.client).await?;
    let held = holder.transaction().await?;
    let table = names::postgres_table(&world.id());
    held.batch_execute(&format!("LOCK TABLE \"{table}\" IN ACCESS EXCLUSIVE MODE"))
        .await?;
    world.run("first").await?;

    // Then it scales to its maximum, and the operator follows
    replicas(world, 3).await?;

    // When they can be stored, then all are, and it scales down
    held.rollback().await?;
    world.drained(200).await?;
    replicas(world, 1).await
}

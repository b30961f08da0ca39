//! Nodes that are drained, or have no room.

use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    ResourceExt,
    api::{DeleteParams, EvictParams},
};
use serde_json::json;
use userpipeline_tests::{World, eventually, services::CREDENTIALS, world::SOON};

/// The workers that are not being deleted, and how many of them are ready.
async fn workers(world: &World) -> Result<(Vec<String>, usize)> {
    let mut pods = world.pods("worker").await?;
    pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
    let is_ready = |pod: &&Pod| {
        let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
        { conditions }.any(|condition| condition.type_ == "Ready" && condition.status == "True")
    };
    let ready = pods.iter().filter(is_ready).count();
    Ok((pods.iter().map(ResourceExt::name_any).collect(), ready))
}

/// Evicts a pod, as soon as the PodDisruptionBudget allows it.
async fn evict(world: &World, pod: &str) -> Result<()> {
    eventually(&format!("the eviction of {pod}"), SOON, async || {
        let evicted = world.api::<Pod>().evict(pod, &EvictParams::default()).await;
        Ok(evicted.map(drop).map_err(|error| error.to_string()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_evicts_ready_workers_in_turn_and_unready_ones_at_once() -> Result<()> {
    // Given two ready workers
    let world = World::new("drain").await?;
    let mut pipeline = world.pipeline();
    pipeline["spec"]["workers"] = json!({"replicas": 2});
    world.apply(&pipeline).await?;
    world.ready().await?;
    let two = async |ready: usize| {
        eventually(&format!("two workers, {ready} of them ready"), SOON, async || {
            let found = workers(&world).await?;
            Ok(if (found.0.len(), found.1) == (2, ready) {
                Ok(found.0)
            } else {
                Err(format!("{found:?}"))
            })
        })
        .await
    };
    let names = two(2).await?;

    // When both are evicted, with repetitions as `kubectl drain` does, Then one of them waits for the other's successor
    let drain = async { futures::try_join!(evict(&world, &names[0]), evict(&world, &names[1])) };
    let replaced = eventually("two other workers", SOON, async || {
        let (found, ready) = workers(&world).await?;
        assert!(ready >= 1, "no worker is ready: {found:?}");
        let is_new = found.iter().all(|name| !names.contains(name));
        Ok(if is_new && (found.len(), ready) == (2, 2) {
            Ok(())
        } else {
            Err(format!("{ready} of {found:?}"))
        })
    });
    futures::try_join!(drain, replaced)?;

    // When a store refuses both, Then both are evicted
    let (postgres, _) = CREDENTIALS[0];
    world.set_secret(postgres, "userpipeline", "wrong").await?;
    for name in two(2).await? {
        world.api::<Pod>().delete(&name, &DeleteParams::default()).await?;
    }
    for name in two(0).await? {
        evict(&world, &name).await?;
    }
    world
        .condition_where("WorkersReady", "False", SOON, |reason, _| reason == "CredentialsRefused")
        .await?;
    world.create_credentials().await?;

    // When a run finds no node, Then it is reported, until the run is deleted
    pipeline["spec"]["pods"] = json!({"ingest": {"resources": {"requests": {"cpu": "1000"}}}});
    world.apply(&pipeline).await?;
    world.ready().await?;
    world.start_run("no-room").await?;
    let (_, message) = world
        .condition_where("ScheduleReady", "False", Duration::from_secs(60), |reason, _| {
            reason == "Unschedulable"
        })
        .await?;
    assert!(message.contains("Insufficient cpu"), "{message}");
    world.delete_job("no-room").await?;
    world.ready().await?;
    world.clean_up().await
}

//! Pods that the API server refuses, because of a quota.

use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use userpipeline_api::{RunOutcome, UserPipeline};
use userpipeline_tests::{World, eventually, world::SOON};

const QUOTA: &str = "no-more-pods";
/// An unfinished Job without pods is reported within this time.
const REPORTED: Duration = Duration::from_secs(40);

/// Allows no further pods. Those that exist stay.
async fn refuse_pods(world: &World) -> Result<()> {
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": QUOTA}, "spec": {"hard": {"pods": "0"}}});
    let quotas = world.api::<ResourceQuota>();
    quotas
        .patch(QUOTA, &PatchParams::apply("end-to-end").force(), &Patch::Apply(quota))
        .await?;
    // Before its status is known, the API server refuses pods for another reason.
    eventually("the quota to be counted", SOON, async || {
        let hard = quotas.get(QUOTA).await?.status.and_then(|status| status.hard);
        Ok(if hard.is_some() { Ok(()) } else { Err("not yet".to_owned()) })
    })
    .await
}

async fn allow_pods(world: &World) -> Result<()> {
    world.api::<ResourceQuota>().delete(QUOTA, &DeleteParams::default()).await?;
    Ok(())
}

/// Waits until a condition has the words of the API server.
async fn is_reported(world: &World, condition: &str) -> Result<()> {
    let (_, message) = world
        .condition_where(condition, "False", REPORTED, |reason, _| reason == "FailedCreate")
        .await?;
    assert!(message.contains("exceeded quota"), "{message}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_a_quota_refuses_are_reported_and_start_once_it_allows_them() -> Result<()> {
    // Given a namespace that allows no pods, When a pipeline is applied, Then the schema Job's refusal is reported
    let world = World::new("quota").await?;
    refuse_pods(&world).await?;
    let mut pipeline = world.pipeline();
    pipeline["spec"]["deletionPolicy"] = json!("Delete");
    world.apply(&pipeline).await?;
    is_reported(&world, "SchemaReady").await?;

    // When pods are allowed, Then the pipeline becomes ready
    allow_pods(&world).await?;
    world.ready().await?;

    // When a run is refused, Then it is reported, and it runs once it may
    refuse_pods(&world).await?;
    world.start_run("refused").await?;
    is_reported(&world, "ScheduleReady").await?;
    allow_pods(&world).await?;
    world.finished("refused", "Complete").await?;
    // The status follows the Job.
    eventually("the run in the status", SOON, async || {
        let run = world.get().await?.status.and_then(|status| status.last_run);
        let succeeded = run.as_ref().is_some_and(|run| run.outcome == RunOutcome::Succeeded);
        Ok(if succeeded { Ok(()) } else { Err(format!("{run:?}")) })
    })
    .await?;
    world.ready().await?;

    // When the deletion is refused, Then it is reported, and the pipeline is deleted once it may be
    refuse_pods(&world).await?;
    world.api::<UserPipeline>().delete("users", &DeleteParams::default()).await?;
    eventually("the refusal of the deletion Job", REPORTED, async || {
        let conditions = world.get().await?.status.unwrap_or_default().conditions;
        let refused = conditions
            .iter()
            .any(|c| c.reason == "FailedCreate" && c.message.contains("exceeded quota"));
        Ok(if refused { Ok(()) } else { Err(format!("{conditions:?}")) })
    })
    .await?;
    allow_pods(&world).await?;
    eventually("the pipeline to be deleted", SOON, async || {
        let left = world.api::<UserPipeline>().get_opt("users").await?;
        Ok(if left.is_none() { Ok(()) } else { Err("still there".to_owned()) })
    })
    .await?;
    world.clean_up().await
}

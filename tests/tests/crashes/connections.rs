//! A pipeline whose stores are in a connection.

use anyhow::{Result, ensure};
use k8s_openapi::api::{
    batch::v1::{CronJob, Job},
    core::v1::ConfigMap,
};
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;
use userpipeline_api::{UserPipeline, UserPipelineConnection, names};
use userpipeline_tests::crash::Sandbox;

use crate::scenario::Scenario;

pub const NAMESPACE_DELETED: &str = "namespace deleted";

pub const SCENARIOS: [Scenario; 5] = [
    Scenario::plain("connection changed", |sandbox| Box::pin(connection_changed(sandbox))),
    Scenario::plain("connection deleted and created again", |sandbox| {
        Box::pin(connection_recreated(sandbox))
    }),
    Scenario::plain("delete with the data, after the connection", |sandbox| {
        Box::pin(delete_after_connection(sandbox))
    }),
    Scenario::plain("check requested", |sandbox| Box::pin(check_requested(sandbox))),
    Scenario::plain(NAMESPACE_DELETED, |sandbox| Box::pin(namespace_deleted(sandbox))),
];

/// Applies a pipeline that takes its addresses from a connection, and waits until it is ready and the connection is checked.
async fn connected(sandbox: &Sandbox, policy: &str) -> Result<()> {
    sandbox.apply::<UserPipelineConnection>(&Sandbox::connection()).await?;
    let mut pipeline = Sandbox::connected_pipeline();
    pipeline["spec"]["deletionPolicy"] = json!(policy);
    sandbox.ready(&pipeline).await?;
    checked(sandbox, None).await
}

async fn connection_changed(sandbox: &Sandbox) -> Result<()> {
    connected(sandbox, "Delete").await?;
    let moved = json!({"spec": {"postgres": {"host": "moved.example"}}});
    sandbox
        .api::<UserPipelineConnection>()
        .patch("stores", &PatchParams::default(), &Patch::Merge(moved))
        .await?;
    let follows = |_: &UserPipeline, status: &userpipeline_api::UserPipelineStatus| {
        let version = status.connections.first().map(|connection| connection.generation);
        let is_ready = status.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True");
        version == Some(2) && status.connection_rollout.is_none() && is_ready
    };
    sandbox.settled_where("the changed connection", follows).await?;
    checked(sandbox, None).await
}

async fn connection_recreated(sandbox: &Sandbox) -> Result<()> {
    connected(sandbox, "Retain").await?;
    sandbox.delete::<UserPipelineConnection>("stores").await?;
    let misses = |_: &UserPipeline, status: &userpipeline_api::UserPipelineStatus| {
        let mut conditions = status.conditions.iter();
        conditions.any(|c| c.type_ == "Ready" && c.reason == "ConnectionMissing")
    };
    sandbox.settled_where("the missing connection", misses).await?;
    // An edit takes effect with the last version of the connection.
    sandbox.edit(json!({"spec": {"schedule": {"cron": "0 0 2 1 *"}}})).await?;
    let edited = |pipeline: &UserPipeline, status: &userpipeline_api::UserPipelineStatus| {
        misses(pipeline, status) && status.observed_generation == pipeline.metadata.generation
    };
    sandbox.settled_where("the edit", edited).await?;
    let cron_job = sandbox.api::<CronJob>().get(&names::cron_job("users")).await?;
    let cron = cron_job.spec.map(|spec| spec.schedule);
    ensure!(cron.as_deref() == Some("0 0 2 1 *"), "{cron:?}");
    sandbox.apply::<UserPipelineConnection>(&Sandbox::connection()).await?;
    sandbox.settled("Ready").await?;
    checked(sandbox, None).await
}

async fn delete_after_connection(sandbox: &Sandbox) -> Result<()> {
    connected(sandbox, "Delete").await?;
    sandbox.delete::<UserPipelineConnection>("stores").await?;
    sandbox.delete::<UserPipeline>("users").await?;
    sandbox.gone().await
}

async fn check_requested(sandbox: &Sandbox) -> Result<()> {
    sandbox.apply::<UserPipelineConnection>(&Sandbox::connection()).await?;
    checked(sandbox, None).await?;
    let request = json!({"metadata": {"annotations": {"userpipeline.dev/check-now": "again"}}});
    sandbox
        .api::<UserPipelineConnection>()
        .patch("stores", &PatchParams::default(), &Patch::Merge(request))
        .await?;
    checked(sandbox, Some("again")).await
}

/// Waits until the result of the check with this nonce is recorded for the current spec, and its Job and the ConfigMaps of earlier
/// checks are gone. A check has a pace of its own, so its writes are counted only once it has ended.
async fn checked(sandbox: &Sandbox, nonce: Option<&str>) -> Result<()> {
    let of_connection = ListParams::default().labels("userpipeline.dev/connection=stores");
    sandbox
        .quiet("the check", async || {
            let connection = sandbox.api::<UserPipelineConnection>().get("stores").await?;
            let generation = connection.metadata.generation;
            let status = connection.status.unwrap_or_default();
            let is_current = status
                .conditions
                .iter()
                .any(|c| c.type_ == "Checked" && c.observed_generation == generation);
            let check = status.check.unwrap_or_default();
            let jobs = sandbox.api::<Job>().list(&of_connection).await?.items.len();
            let config_maps = sandbox.api::<ConfigMap>().list(&of_connection).await?.items.len();
            let is_recorded = is_current && check.checked_at.is_some() && check.nonce.as_deref() == nonce;
            Ok(if is_recorded && jobs == 0 && config_maps == 1 {
                Ok(())
            } else {
                Err(format!("{jobs} Jobs, {config_maps} ConfigMaps, {check:?}"))
            })
        })
        .await
}

async fn namespace_deleted(sandbox: &Sandbox) -> Result<()> {
    connected(sandbox, "Delete").await?;
    sandbox.namespace_gone().await
}

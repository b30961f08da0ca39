//! Containers that others add to our pods, and policies for our Jobs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use futures::future::try_join_all;
use serde_json::{Value, json};
use userpipeline_api::{Run, RunOutcome};
use userpipeline_tests::{
    World, eventually, stores,
    webhook::{Webhook, sidecar},
    world::SOON,
};

const ENDLESS: u32 = 3600;

/// The run of a Job in the status.
async fn recorded(world: &World, job: &str, within: Duration) -> Result<Run> {
    eventually(&format!("the run of Job {job} in the status"), within, async || {
        let status = world.get().await?.status.unwrap_or_default();
        let found = status.runs.iter().find(|run| run.job == job).cloned();
        let listed: Vec<&String> = status.runs.iter().map(|run| &run.job).collect();
        Ok(found.ok_or_else(|| format!("{listed:?}")))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn sidecars_hide_no_report_and_keep_no_run_from_ending() -> Result<()> {
    // Given a webhook that adds a sidecar, which ends after our container, to each pod of a Job
    let world = World::new("sidecars").await?;
    let seconds = Arc::new(AtomicU32::new(8));
    let added = seconds.clone();
    let webhook = Webhook::start(&world, "Pod", "pods", move |pod| sidecar(added.load(Ordering::Relaxed))(pod)).await?;

    // When a pipeline is applied and runs, Then the reports are those of our containers
    world.apply(&world.pipeline()).await?;
    world.ready().await?;
    world.run("short").await?;
    let run = recorded(&world, "short", SOON).await?;
    assert_eq!(
        (run.outcome, run.landed, run.reason.as_str()),
        (RunOutcome::Succeeded, 200, "Completed"),
        "{run:?}"
    );

    // When the sidecar never ends, Then the run ends nevertheless, with its report, and the message names the sidecar
    seconds.store(ENDLESS, Ordering::Relaxed);
    world.start_run("endless").await?;
    let run = recorded(&world, "endless", Duration::from_secs(90)).await?;
    assert_eq!((run.outcome, run.reason.as_str()), (RunOutcome::Succeeded, "Completed"), "{run:?}");
    assert!(run.message.contains("sidecar"), "{run:?}");

    // And no pod of it is left
    eventually("the sidecar to be stopped", SOON, async || {
        let left = world.pods("ingest").await?.into_iter();
        let left: Vec<_> = left
            .filter(|pod| pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running"))
            .collect();
        Ok(if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{} pods run", left.len()))
        })
    })
    .await?;
    assert!(webhook.patched() >= 3, "the schema Job and two runs");
    webhook.remove().await?;
    world.clean_up().await
}

/// The time after which Kubernetes deletes an ended Job, replaced by 0.
fn deleted_when_ended(job: &Value) -> Value {
    if job["spec"]["ttlSecondsAfterFinished"] == json!(0) {
        return Value::Null;
    }
    json!([{"op": "add", "path": "/spec/ttlSecondsAfterFinished", "value": 0}])
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_vanish_when_they_end_are_recorded() -> Result<()> {
    // Given a policy that deletes each Job when it has ended
    let world = World::new("vanishing").await?;
    let webhook = Webhook::start(&world, "Job", "jobs", deleted_when_ended).await?;

    // When a pipeline is applied, Then its schema is applied once
    world.apply(&world.pipeline()).await?;
    world.ready().await?;
    assert_eq!(webhook.patched(), 1, "schema Jobs");

    // When six runs end together, Then the status has each of them, as the ledger does
    let names: Vec<String> = (0..6).map(|n| format!("together-{n}")).collect();
    try_join_all(names.iter().map(|name| world.start_run(name))).await?;
    let mut landed = 0;
    for name in &names {
        let run = recorded(&world, name, SOON).await?;
        assert_eq!((run.outcome, run.reason.as_str()), (RunOutcome::Succeeded, "Completed"), "{run:?}");
        landed += run.landed;
    }
    let db = stores::postgres(&world.client).await?;
    let ledger = format!(
        "SELECT sum(landed)::bigint FROM userpipeline.runs WHERE pipeline = '{}'",
        world.id()
    );
    assert_eq!(stores::number(&db, &ledger).await?, landed);

    // And without the policy nothing is left to do: no Job is created again
    webhook.remove().await?;
    let schema = world.get().await?.status.and_then(|status| status.schema).context("the schema")?;
    assert_eq!(schema.failed_attempts, 0, "{schema:?}");
    world.clean_up().await
}

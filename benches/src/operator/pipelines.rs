//! The pipelines of the bench.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::batch::v1::CronJob;
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::{Value, json};
use userpipeline_api::{UserPipeline, names};
use userpipeline_operator::pipeline::schema_hash;
use userpipeline_tests::crash::Sandbox;

const EDITS: usize = 200;
const AT_ONCE: usize = 16;
const DELETED_AT_ONCE: u32 = 500;
const PATIENCE: Duration = Duration::from_secs(300);

pub fn name(number: usize) -> String {
    format!("users-{number}")
}

/// Creates suspended pipelines.
pub async fn create(pipelines: &Api<UserPipeline>, numbers: impl Iterator<Item = usize>) -> Result<()> {
    stream::iter(numbers)
        .map(|number| async move { create_one(pipelines, number).await.map(drop) })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

async fn create_one(pipelines: &Api<UserPipeline>, number: usize) -> Result<UserPipeline> {
    let mut pipeline = Sandbox::pipeline();
    pipeline["metadata"]["name"] = json!(name(number));
    pipeline["spec"]["suspend"] = json!(true);
    Ok(pipelines.create(&PostParams::default(), &serde_json::from_value(pipeline)?).await?)
}

/// Creates suspended pipelines with the status of the pipeline 0: their schemas are applied, and they are drained. So they need no
/// Job, and the operator makes all their other children.
pub async fn seed(pipelines: &Api<UserPipeline>, numbers: impl Iterator<Item = usize>) -> Result<()> {
    let sample = json!(pipelines.get(&name(0)).await?.status);
    let sample = &sample.to_string();
    stream::iter(numbers)
        .map(|number| async move {
            let pipeline = create_one(pipelines, number).await?;
            let status = status(sample, &pipeline, number)?;
            let patch = Patch::Merge(json!({"status": status}));
            pipelines.patch_status(&name(number), &PatchParams::default(), &patch).await?;
            anyhow::Ok(())
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

fn status(sample: &str, pipeline: &UserPipeline, number: usize) -> Result<Value> {
    let status = sample
        .replace("users-0", &name(number))
        .replace("users_0", &name(number).replace('-', "_"));
    let mut status: Value = serde_json::from_str(&status)?;
    // So that it counts as settled once the operator has observed its children.
    let conditions = status["conditions"].as_array_mut().context("the sample has no conditions")?;
    conditions.retain(|condition| condition["type"] != "Ready");
    status["schema"]["appliedHash"] = json!(schema_hash(pipeline).context("the pipeline is not valid")?);
    Ok(status)
}

/// Waits until all pipelines are suspended and Ready.
pub async fn settled(pipelines: &Api<UserPipeline>, count: usize) -> Result<()> {
    let mut settled = BTreeMap::new();
    let mut events = watcher(pipelines.clone(), watcher::Config::default())
        .default_backoff()
        .applied_objects()
        .boxed();
    let mut reported = Instant::now();
    while settled.values().filter(|settled| **settled).count() < count {
        let Ok(Some(next)) = tokio::time::timeout(PATIENCE, events.next()).await else {
            anyhow::bail!(
                "nothing has settled for {PATIENCE:?}: {} of {count}",
                settled.values().filter(|s| **s).count()
            );
        };
        let Ok(pipeline) = next else { continue };
        let conditions = pipeline.status.clone().unwrap_or_default().conditions;
        let is = |type_: &str| conditions.iter().any(|c| c.type_ == type_ && c.status == "True");
        settled.insert(pipeline.name_any(), is("Suspended") && is("Ready"));
        if reported.elapsed() > Duration::from_secs(20) {
            eprintln!("{} of {count} settled", settled.values().filter(|s| **s).count());
            reported = Instant::now();
        }
    }
    Ok(())
}

/// The times from an edit of a schedule until the CronJob has it, sorted. Edits are sequential.
pub async fn edit(client: &Client, namespace: &str, count: usize) -> Result<Vec<Duration>> {
    let pipelines: Api<UserPipeline> = Api::namespaced(client.clone(), namespace);
    let cron_jobs: Api<CronJob> = Api::namespaced(client.clone(), namespace);
    let mut events = watcher(cron_jobs, watcher::Config::default())
        .default_backoff()
        .applied_objects()
        .boxed();
    let mut waits = Vec::new();
    for edit in 0..EDITS.min(count * 4) {
        let name = name(edit % count);
        let schedule = format!("{} {} 1 1 *", edit % 60, 1 + edit / 60);
        let started = Instant::now();
        let change = json!({"spec": {"schedule": {"cron": schedule}}});
        pipelines.patch(&name, &PatchParams::default(), &Patch::Merge(change)).await?;
        let cron_job = names::cron_job(&name);
        loop {
            let next = tokio::time::timeout(Duration::from_secs(30), events.next()).await;
            let found = next
                .with_context(|| format!("{cron_job} did not change"))?
                .context("the watch has ended")??;
            if found.name_any() == cron_job && found.spec.is_some_and(|spec| spec.schedule == schedule) {
                break;
            }
        }
        waits.push(started.elapsed());
    }
    waits.sort();
    Ok(waits)
}

/// Deletes all pipelines, and waits until they are gone.
pub async fn delete(pipelines: &Api<UserPipeline>) -> Result<()> {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        let some = ListParams::default().limit(DELETED_AT_ONCE);
        if pipelines.list_metadata(&some).await?.items.is_empty() {
            return Ok(());
        }
        pipelines.delete_collection(&DeleteParams::background(), &some).await?;
    }
    anyhow::bail!("the pipelines are not gone after {PATIENCE:?}")
}

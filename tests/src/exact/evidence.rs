//! What workers and runs say of a fault. What they said before it began does not count.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use userpipeline_api::report::WorkerReport;

use super::{Scene, Store};
use crate::{eventually, world::SOON};

/// How workers and runs tell that PostgreSQL had no space left, and nothing else.
const NO_SPACE: &str = "SQLSTATE 53100";

/// How often each worker had tried a store again.
pub struct Retries {
    store: Store,
    /// By the uid of its pod.
    before: BTreeMap<String, f64>,
}

impl Retries {
    /// As it is at this moment. Each worker must say it: what one does not say would count later.
    pub async fn now(scene: &Scene, store: Store) -> Result<Self> {
        let before = eventually("each worker's retries", SOON, async || {
            let mut counted = BTreeMap::new();
            for pod in scene.running("worker").await? {
                counted.insert(pod.uid().context("a uid")?, retries(scene, &pod, store).await?);
            }
            Ok(Ok(counted))
        })
        .await?;
        Ok(Self { store, before })
    }

    /// How many there were since, as far as workers answer.
    pub async fn since(&self, scene: &Scene) -> Result<f64> {
        let mut sum = 0.0;
        for pod in scene.running("worker").await? {
            let Ok(counted) = retries(scene, &pod, self.store).await else {
                continue;
            };
            let before = self.before.get(&pod.uid().context("a uid")?).copied().unwrap_or(0.0);
            // A process that has started anew has counted from nothing.
            sum += if counted < before { counted } else { counted - before };
        }
        Ok(sum)
    }
}

async fn retries(scene: &Scene, pod: &Pod, store: Store) -> Result<f64> {
    let label = format!("store=\"{}\"", store.label());
    scene.world.metric(pod, "retries", &label).await
}

/// The attempts of runs that had begun.
pub struct Attempts(BTreeSet<(String, i32)>);

impl Attempts {
    /// As it is at this moment.
    pub async fn now(scene: &Scene) -> Result<Self> {
        attempts(scene, None).await.map(Self)
    }

    /// How many began since, and have failed for this reason.
    pub async fn failed_since(&self, scene: &Scene, reason: &str) -> Result<usize> {
        Ok(attempts(scene, Some(reason)).await?.difference(&self.0).count())
    }
}

async fn attempts(scene: &Scene, reason: Option<&str>) -> Result<BTreeSet<(String, i32)>> {
    let pipeline = scene.world.id().to_string();
    let statement = "SELECT run_id, attempt FROM userpipeline.runs WHERE pipeline = $1 AND ($2::text IS NULL OR reason = $2)";
    let rows = scene.query(statement, &[&pipeline, &reason]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// What a worker says of itself.
pub async fn status(scene: &Scene, worker: &Pod) -> Result<WorkerReport> {
    let (namespace, name) = (&scene.world.namespace, worker.name_any());
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}:8080/proxy/status");
    Ok(scene.world.client.request(http::Request::get(path).body(Vec::new())?).await?)
}

/// The pods that say that PostgreSQL has no space left: workers, as long as their batch is not written for that, and runs that
/// ended so. A run's pod says it also where the ledger cannot, which is full as well.
pub async fn without_space(scene: &Scene) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for pod in scene.running("worker").await? {
        // One that has just started does not answer yet.
        let report = status(scene, &pod).await.unwrap_or_default();
        if report.message.contains(NO_SPACE) {
            found.insert(pod.name_any());
        }
    }
    for pod in scene.world.pods("ingest").await? {
        if last_words(&pod).any(|words| words.contains(NO_SPACE)) {
            found.insert(pod.name_any());
        }
    }
    Ok(found)
}

/// What the containers of a pod left when they ended.
fn last_words(pod: &Pod) -> impl Iterator<Item = &str> {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    statuses.filter_map(|status| status.state.as_ref()?.terminated.as_ref()?.message.as_deref())
}

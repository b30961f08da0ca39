//! What workers and runs report about a fault. Reports from before the fault do not count.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use userpipeline_api::report::WorkerReport;

use super::{Store, Trial};
use crate::{eventually, world::SOON};

/// How long the effect of a fault may take to show; after that the fault has missed.
pub(super) const WINDOW: Duration = Duration::from_secs(40);
/// The SQLSTATE `disk_full`.
const NO_SPACE: &str = "SQLSTATE 53100";

/// How often each worker had retried a store.
pub struct Retries {
    store: Store,
    /// By the uid of its pod.
    before: BTreeMap<String, f64>,
}

impl Retries {
    /// The current counts. Every worker must answer: a missing count would be attributed to the fault later.
    pub async fn now(trial: &Trial, store: Store) -> Result<Self> {
        let before = eventually("each worker's retries", SOON, async || {
            let mut counted = BTreeMap::new();
            for pod in trial.running("worker").await? {
                counted.insert(pod.uid().context("a uid")?, retries(trial, &pod, store).await?);
            }
            Ok(Ok(counted))
        })
        .await?;
        Ok(Self { store, before })
    }

    /// Retries since then, of the workers that answer.
    pub async fn since(&self, trial: &Trial) -> Result<f64> {
        let mut sum = 0.0;
        for pod in trial.running("worker").await? {
            let Ok(counted) = retries(trial, &pod, self.store).await else {
                continue;
            };
            let before = self.before.get(&pod.uid().context("a uid")?).copied().unwrap_or(0.0);
            // A restarted process counts from 0.
            sum += if counted < before { counted } else { counted - before };
        }
        Ok(sum)
    }
}

async fn retries(trial: &Trial, pod: &Pod, store: Store) -> Result<f64> {
    let label = format!("store=\"{}\"", store.label());
    trial.world.metric(pod, "retries", &label).await
}

/// The attempts of runs that had started.
pub struct Attempts(BTreeSet<(String, i32)>);

impl Attempts {
    pub async fn now(trial: &Trial) -> Result<Self> {
        attempts(trial, None).await.map(Self)
    }

    /// Attempts that started since then and failed for this reason.
    pub async fn failed_since(&self, trial: &Trial, reason: &str) -> Result<usize> {
        Ok(attempts(trial, Some(reason)).await?.difference(&self.0).count())
    }
}

async fn attempts(trial: &Trial, reason: Option<&str>) -> Result<BTreeSet<(String, i32)>> {
    let pipeline = trial.world.id().to_string();
    let statement = "SELECT run_id, attempt FROM userpipeline.runs WHERE pipeline = $1 AND ($2::text IS NULL OR reason = $2)";
    let rows = trial.query(statement, &[&pipeline, &reason]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// The `/status` of a worker.
pub async fn status(trial: &Trial, worker: &Pod) -> Result<WorkerReport> {
    let (namespace, name) = (&trial.world.namespace, worker.name_any());
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}:8080/proxy/status");
    Ok(trial.world.client.request(http::Request::get(path).body(Vec::new())?).await?)
}

/// The pods that report that PostgreSQL has no space left: workers while they cannot write a batch, and runs that ended for that
/// reason. A run's pod reports it even when the ledger cannot, because its table is on the full volume too.
pub async fn without_space(trial: &Trial) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for pod in trial.running("worker").await? {
        // A worker that has just started does not answer yet.
        let report = status(trial, &pod).await.unwrap_or_default();
        if report.message.contains(NO_SPACE) {
            found.insert(pod.name_any());
        }
    }
    for pod in trial.world.pods("ingest").await? {
        if termination_messages(&pod).any(|message| message.contains(NO_SPACE)) {
            found.insert(pod.name_any());
        }
    }
    Ok(found)
}

/// The termination messages of a pod's containers.
fn termination_messages(pod: &Pod) -> impl Iterator<Item = &str> {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    statuses.filter_map(|status| status.state.as_ref()?.terminated.as_ref()?.message.as_deref())
}

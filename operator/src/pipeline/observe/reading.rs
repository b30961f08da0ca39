//! Reads what there is of a pipeline.

use jiff::Timestamp;
use userpipeline_api::{UserPipeline, names::PipelineId};

use super::{observed::Observed, replica_sets::ReplicaSets, worker_status::WorkerClient};
use crate::pipeline::children::ChildCaches;

/// Reads children from the caches, and reports from the workers that the pipeline's own Deployment created.
pub async fn observe(
    pipeline: &UserPipeline,
    caches: &ChildCaches,
    sets: &ReplicaSets,
    workers: &WorkerClient,
    now: Timestamp,
) -> Observed {
    let id = &PipelineId::of(pipeline);
    let mut observed = Observed::cached(pipeline, caches, now);
    let own = sets.own_workers(pipeline, &observed).await;
    observed.reports = workers.reports(own.into_iter()).await;
    observed.progress_unknown_since = workers.unknown_since(id, observed.stored_through().is_none(), now);
    observed
}

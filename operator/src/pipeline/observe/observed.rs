//! The children and worker reports of one pipeline, and which child is which.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::{
    batch::v1::{CronJob, Job},
    core::v1::Pod,
};
use kube::ResourceExt;
use userpipeline_api::{names::PipelineId, report::WorkerReport};

use super::{pods, worker_status::WorkerClient};
use crate::pipeline::{
    children::{ChildCaches, Children},
    model::{has_name, labels},
};

#[derive(Clone, Debug, Default)]
pub struct Observed {
    pub children: Children,
    /// The reports of the workers that answered, by the pod's name.
    pub reports: BTreeMap<String, WorkerReport>,
    /// Since when a partition has had no worker that reports its progress.
    pub progress_unknown_since: Option<Timestamp>,
}

/// Reads children from the caches, and reports from the workers.
pub async fn observe(id: &PipelineId, caches: &ChildCaches, workers: &WorkerClient, now: Timestamp) -> Observed {
    let mut observed = Observed::cached(id, caches);
    observed.reports = workers.reports(observed.workers().map(AsRef::as_ref)).await;
    observed.progress_unknown_since = workers.unknown_since(id, observed.stored_through().is_none(), now);
    observed
}

pub fn is_of_component<K: ResourceExt>(object: &K, component: labels::Component) -> bool {
    object
        .labels()
        .get(labels::COMPONENT)
        .is_some_and(|label| label == component.as_str())
}

impl Observed {
    /// The children, without worker reports.
    pub fn cached(id: &PipelineId, caches: &ChildCaches) -> Self {
        Self {
            children: caches.of_pipeline(id),
            reports: BTreeMap::new(),
            progress_unknown_since: None,
        }
    }

    /// The live pods of workers, terminating ones included.
    pub fn workers(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.children
            .pods
            .iter()
            .filter(|pod| is_of_component(pod.as_ref(), labels::Component::Worker) && pods::is_live(pod))
    }

    /// The Jobs of runs, those that users created included.
    pub fn runs(&self) -> impl Iterator<Item = &Arc<Job>> {
        let jobs = self.children.jobs.iter();
        jobs.filter(|job| is_of_component(job.as_ref(), labels::Component::Ingest))
    }

    pub fn cron_job(&self, name: &str) -> Option<&CronJob> {
        let cron_jobs = self.children.cron_jobs.iter().map(AsRef::as_ref);
        cron_jobs.into_iter().find(|cron_job| has_name(*cron_job, name))
    }

    /// The last tick for which the CronJob started a run.
    pub fn last_tick_of_cron_job(&self, name: &str) -> Option<Timestamp> {
        Some(self.cron_job(name)?.status.as_ref()?.last_schedule_time.as_ref()?.0)
    }

    pub fn pods_of(&self, job: &Job) -> Vec<&Pod> {
        let uid = job.metadata.uid.as_deref().unwrap_or_default();
        let pods = self.children.pods.iter().map(AsRef::as_ref);
        pods.filter(|pod| pods::is_of_job(pod, uid)).collect()
    }
}

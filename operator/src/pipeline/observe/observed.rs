//! The children and worker reports of one pipeline, and which child is which.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::{
    batch::v1::{CronJob, Job},
    core::v1::Pod,
};
use kube::ResourceExt;
use userpipeline_api::{UserPipeline, names::PipelineId, report::WorkerReport};

use super::{pods, refusals::Refusals};
use crate::pipeline::{
    children::{ChildCaches, Children},
    model::{has_name, labels},
};

#[derive(Clone, Debug, Default)]
pub struct Observed {
    pub children: Children,
    pub deleted: RecentlyDeleted,
    /// Jobs whose pods the API server refuses.
    pub refusals: Refusals,
    /// The reports of the workers that answered, by the pod's name.
    pub reports: BTreeMap<String, WorkerReport>,
    /// Since when a partition has had no worker that reports its progress.
    pub progress_unknown_since: Option<Timestamp>,
    /// The manager that recently set the number of workers in the Deployment.
    pub scaler: Option<String>,
}

/// Children that no longer exist. Nothing may delete them, or wait for them.
#[derive(Clone, Debug, Default)]
pub struct RecentlyDeleted {
    /// With the time of the deletion.
    pub jobs: Vec<(Timestamp, Arc<Job>)>,
    pub pods: Vec<Arc<Pod>>,
}

impl RecentlyDeleted {
    /// Of the pipeline that was created at `since`: an earlier one may have had the same name.
    fn cached(id: &PipelineId, since: Option<Timestamp>, caches: &ChildCaches, now: Timestamp) -> Self {
        let mut jobs = caches.jobs.deleted().of_pipeline(id, now);
        jobs.retain(|(_, job)| job.metadata.creation_timestamp.as_ref().map(|at| at.0) >= since);
        let pods = caches.pods.deleted().of_pipeline(id, now);
        Self {
            jobs,
            pods: pods.into_iter().map(|(_, pod)| pod).collect(),
        }
    }
}

pub fn is_of_component<K: ResourceExt>(object: &K, component: labels::Component) -> bool {
    object
        .labels()
        .get(labels::COMPONENT)
        .is_some_and(|label| label == component.as_str())
}

impl Observed {
    /// The children, without worker reports.
    pub fn cached(pipeline: &UserPipeline, caches: &ChildCaches, now: Timestamp) -> Self {
        let since = pipeline.metadata.creation_timestamp.as_ref().map(|at| at.0);
        Self::of(&PipelineId::of(pipeline), since, caches, now)
    }

    /// The children of a pipeline that was created at `since`.
    pub fn of(id: &PipelineId, since: Option<Timestamp>, caches: &ChildCaches, now: Timestamp) -> Self {
        // The existing ones first: what is deleted in between is in both.
        let children = caches.of_pipeline(id);
        let mut deleted = RecentlyDeleted::cached(id, since, caches, now);
        deleted
            .jobs
            .retain(|(_, job)| children.jobs.iter().all(|live| live.uid() != job.uid()));
        deleted.pods.retain(|pod| children.pods.iter().all(|live| live.uid() != pod.uid()));
        Self {
            children,
            deleted,
            refusals: Refusals::default(),
            reports: BTreeMap::new(),
            progress_unknown_since: None,
            scaler: None,
        }
    }

    /// The live pods with the labels of workers, terminating ones included. Not all need be of the pipeline's Deployment.
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

    /// Those that were deleted recently, with the time of the deletion.
    pub fn deleted_runs(&self) -> impl Iterator<Item = &(Timestamp, Arc<Job>)> {
        let jobs = self.deleted.jobs.iter();
        jobs.filter(|(_, job)| is_of_component(job.as_ref(), labels::Component::Ingest))
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

    /// The same with deleted ones, for what they reported.
    pub fn all_pods_of(&self, job: &Job) -> Vec<&Pod> {
        let uid = job.metadata.uid.as_deref().unwrap_or_default();
        let deleted = self.deleted.pods.iter().map(AsRef::as_ref);
        let mut pods = self.pods_of(job);
        pods.extend(deleted.filter(|pod| pods::is_of_job(pod, uid)));
        pods
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pipeline::children::ChildWriters;

    #[test]
    fn deleted_jobs_of_an_earlier_pipeline_of_the_same_name_do_not_count() {
        let caches = ChildWriters::default().caches();
        let (created, now): (Timestamp, Timestamp) = ("2025-01-01T00:00:00Z".parse().unwrap(), "2025-01-01T00:01:00Z".parse().unwrap());
        for (name, at) in [("earlier", "2024-12-31T23:59:59Z"), ("own", "2025-01-01T00:00:00Z")] {
            let labels = json!({labels::PIPELINE: "users"});
            let job = json!({"metadata": {"name": name, "namespace": "demo", "uid": name, "creationTimestamp": at, "labels": labels}});
            caches.jobs.deleted().remember(serde_json::from_value(job).unwrap(), now);
        }
        let id = PipelineId {
            namespace: "demo".into(),
            name: "users".into(),
        };
        let names = |since: Option<Timestamp>| -> Vec<String> {
            let observed = Observed::of(&id, since, &caches, now);
            observed.deleted.jobs.iter().map(|(_, job)| job.name_any()).collect()
        };
        assert_eq!(names(Some(created)), ["own"]);
        assert_eq!(names(None), ["earlier", "own"], "for back-fills, which know their Jobs by owner");
    }
}

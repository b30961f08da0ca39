//! How far the workers' Deployment is, and what its pods and the runs read now.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use userpipeline_api::{names, names::PipelineId};

use super::observed::Observed;
use crate::pipeline::model::{PodConfigRef, has_name};

impl Observed {
    pub fn worker_deployment(&self, id: &PipelineId) -> Option<&Deployment> {
        let name = names::workers(&id.name);
        let mut deployments = self.children.deployments.iter().map(AsRef::as_ref);
        deployments.find(|deployment| has_name(*deployment, &name))
    }
}

impl Observed {
    /// All records that were written to the topic before this time are stored. Known only while every partition has a worker that
    /// reports its progress.
    pub fn stored_through(&self) -> Option<Timestamp> {
        let partitions = self.reports.values().map(|report| report.topic_partitions).max()?;
        let owned: Vec<_> = self.reports.values().flat_map(|report| &report.partitions).collect();
        let complete = partitions > 0 && {
            let reported: BTreeSet<i32> = owned.iter().map(|owned| owned.partition).collect();
            (0..partitions).all(|n| reported.contains(&n))
        };
        if !complete {
            return None;
        }
        owned.iter().map(|owned| owned.stored_through).min().flatten()
    }
}

/// Whether the Deployment's controller has not observed the current spec yet: the rest of its status is about an older one.
pub fn is_behind_spec(deployment: &Deployment) -> bool {
    let observed = deployment.status.as_ref().and_then(|status| status.observed_generation);
    observed.unwrap_or(0) < deployment.metadata.generation.unwrap_or(0)
}

/// Whether all replicas were made from the current pod template.
pub fn is_rolled_out(deployment: &Deployment) -> bool {
    let status = deployment.status.as_ref();
    let updated = status.and_then(|status| status.updated_replicas).unwrap_or(0);
    !is_behind_spec(deployment) && updated == replicas(deployment)
}

/// Replicas that there are, as far as the Deployment's status is current.
fn replicas(deployment: &Deployment) -> i32 {
    let status = deployment.status.as_ref();
    status.and_then(|status| status.replicas).unwrap_or(0)
}

/// How many workers are left; `None` without a Deployment. The cache of pods may be behind, so a Deployment that desires
/// replicas, or whose status is outdated, counts as having some.
pub fn workers_left(observed: &Observed, deployment: Option<&Deployment>) -> Option<usize> {
    let deployment = deployment?;
    let desired = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let reported = replicas(deployment).max(i32::from(is_behind_spec(deployment)));
    let counted = usize::try_from(reported.max(desired)).unwrap_or(0);
    Some(observed.workers().count().max(counted))
}

/// The pod configs that runs and workers have now.
pub fn current_pod_configs(observed: &Observed, id: &PipelineId) -> (Option<PodConfigRef>, Option<PodConfigRef>) {
    let runs = observed.cron_job(&names::cron_job(&id.name)).and_then(|cron_job| {
        let job = cron_job.spec.as_ref()?.job_template.spec.as_ref()?;
        PodConfigRef::of_template(&job.template)
    });
    let workers = observed
        .worker_deployment(id)
        .and_then(|deployment| PodConfigRef::of_template(&deployment.spec.as_ref()?.template));
    (runs, workers)
}

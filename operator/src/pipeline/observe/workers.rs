//! How far the workers' Deployment is, and what its pods and the runs read now.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Container};
use kube::ResourceExt;
use userpipeline_api::{names, names::PipelineId};

use super::observed::Observed;
use crate::pipeline::{
    cache::Cache,
    model::{PodConfigRef, has_name, labels},
};

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

/// Whether a rollout has begun that is neither complete nor given up. A paused one makes no progress, so nothing waits for it.
pub fn is_rolling_out(deployment: &Deployment) -> bool {
    let (spec, status) = (deployment.spec.as_ref(), deployment.status.as_ref());
    if spec.is_some_and(|spec| spec.paused == Some(true)) {
        return false;
    }
    if is_behind_spec(deployment) {
        return true;
    }
    let mut conditions = status.iter().flat_map(|status| status.conditions.iter().flatten());
    if let Some(progressing) = conditions.find(|condition| condition.type_ == "Progressing") {
        let is_complete = progressing.reason.as_deref() == Some("NewReplicaSetAvailable");
        return progressing.status == "True" && !is_complete;
    }
    let desired = spec.and_then(|spec| spec.replicas).unwrap_or(1);
    let available = status.and_then(|status| status.available_replicas).unwrap_or(0);
    !is_rolled_out(deployment) || available < desired
}

/// Whether all desired workers were made from the current pod template, and are ready.
pub fn is_available(deployment: &Deployment) -> bool {
    let available = deployment.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0);
    is_rolled_out(deployment) && available >= replicas(deployment)
}

/// The pipelines whose workers are rolling out. Reads every cached Deployment.
pub fn rolling_out(deployments: &Cache<Deployment>) -> Vec<PipelineId> {
    let cached = deployments.store().state();
    let rolling = cached
        .iter()
        .filter(|cached| cached.read().is_ok_and(|deployment| is_rolling_out(&deployment)));
    rolling
        .filter_map(|cached| {
            Some(PipelineId {
                namespace: cached.namespace()?,
                name: cached.pipeline()?.to_owned(),
            })
        })
        .collect()
}

/// Whether the Deployment has workers with another image or ConfigMap. An upgrade may change the ConfigMap of a pinned version.
pub fn has_other_workers(deployment: &Deployment, desired: &Deployment) -> bool {
    let workers = |deployment: &Deployment| {
        let pod = deployment.spec.as_ref()?.template.spec.as_ref()?;
        let is_worker = |container: &&Container| container.name == labels::Component::Worker.as_str();
        let image = pod.containers.iter().find(is_worker)?.image.clone();
        Some((image, PodConfigRef::of_pod(pod)?.config_map))
    };
    let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas);
    replicas != Some(0) && workers(deployment).is_some_and(|live| Some(live) != workers(desired))
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_rollout_lasts_until_it_is_complete_or_given_up() {
        let progressing = |status: &str, reason: &str| json!([{"type": "Available", "status": "True"}, {"type": "Progressing", "status": status, "reason": reason}]);
        let counts = |updated: i32, available: i32| json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": updated, "availableReplicas": available});
        let with = |conditions: Value| json!({"observedGeneration": 2, "replicas": 3, "updatedReplicas": 1, "conditions": conditions});
        for (case, status, paused, expected) in [
            ("not observed yet", json!({"observedGeneration": 1}), false, true),
            ("some are old", counts(1, 2), false, true),
            ("a new one is unavailable", counts(2, 1), false, true),
            ("all are new", counts(2, 2), false, false),
            ("progressing", with(progressing("True", "ReplicaSetUpdated")), false, true),
            ("given up", with(progressing("False", "ProgressDeadlineExceeded")), false, false),
            (
                "a complete one lost a pod",
                with(progressing("True", "NewReplicaSetAvailable")),
                false,
                false,
            ),
            ("paused", counts(1, 2), true, false),
        ] {
            let deployment = json!({"metadata": {"generation": 2}, "spec": {"replicas": 2, "paused": paused, "selector": {}, "template": {}}, "status": status});
            assert_eq!(is_rolling_out(&serde_json::from_value(deployment).unwrap()), expected, "{case}");
        }
    }
}

//! ConfigMaps that no pod uses or will use. Pure.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::{CronJob, Job},
    core::v1::ConfigMap,
};
use kube::ResourceExt;
use userpipeline_api::SchemaStatus;

use crate::pipeline::{
    decide::Decisions,
    desired::Desired,
    model::{PodConfigRef, elapsed, labels},
    observe::{Observed, job_end, pods},
};

/// An unused ConfigMap stays for this time after its successor was created: a Job may be about to be created from an older
/// template.
const RETENTION: Duration = Duration::from_secs(120);

/// The names of ConfigMaps that live or desired objects refer to.
pub(super) fn used_config_maps(desired: &Desired, observed: &Observed) -> BTreeSet<String> {
    let live = &observed.children;
    let pods = live.pods.iter().filter(|pod| pods::is_live(pod));
    let pods = pods.filter_map(|pod| PodConfigRef::of_pod(pod.spec.as_ref()?));
    let unfinished = live.jobs.iter().filter(|job| job_end(job).is_none());
    let jobs = unfinished.filter_map(|job| of_job(job));
    let cron_jobs = live.cron_jobs.iter().filter_map(|cron_job| of_cron_job(cron_job));
    let deployments = live.deployments.iter().filter_map(|deployment| of_deployment(deployment));
    let desired_jobs = desired
        .schema
        .jobs
        .iter()
        .chain(&desired.inspection.jobs)
        .chain(&desired.runs)
        .filter_map(of_job);
    let desired_cron_jobs = desired.schedule.cron_jobs.iter().filter_map(of_cron_job);
    let desired_deployments = desired.workers.deployments.iter().filter_map(of_deployment);
    pods.chain(jobs)
        .chain(cron_jobs)
        .chain(deployments)
        .chain(desired_jobs)
        .chain(desired_cron_jobs)
        .chain(desired_deployments)
        .map(|config| config.config_map)
        // No pod reads these.
        .chain(desired.connections.config_maps.iter().map(ResourceExt::name_any))
        .collect()
}

fn of_job(job: &Job) -> Option<PodConfigRef> {
    PodConfigRef::of_template(&job.spec.as_ref()?.template)
}

fn of_cron_job(cron_job: &CronJob) -> Option<PodConfigRef> {
    PodConfigRef::of_template(&cron_job.spec.as_ref()?.job_template.spec.as_ref()?.template)
}

fn of_deployment(deployment: &Deployment) -> Option<PodConfigRef> {
    PodConfigRef::of_template(&deployment.spec.as_ref()?.template)
}

/// ConfigMaps that are not used and have a successor where one is needed.
pub(super) fn of<'a>(
    desired: &Desired,
    used: &BTreeSet<String>,
    decisions: &Decisions,
    uses_connections: bool,
    observed: &'a Observed,
    now: Timestamp,
) -> Vec<&'a ConfigMap> {
    let is_unused = |config_map: &ConfigMap| !used.contains(&config_map.name_any()) && config_map.metadata.deletion_timestamp.is_none();
    let is_replaced = |config_map: &ConfigMap| match config_map.labels().get(labels::COMPONENT).map(String::as_str) {
        // The next Job that is held back has the same one.
        Some("schema") => !decisions.is_strimzi_pending(),
        Some("ingest") => is_settled(&desired.schedule.config_maps, observed, now),
        Some("worker") => is_settled(&desired.workers.config_maps, observed, now),
        Some("deletion") => is_of_no_schema(config_map, desired, &decisions.schema.status),
        // Workers have the earlier connections until a rollout ends, and others must not write to the same tables and topics.
        Some("connections") => {
            let rolls_out = decisions.connections.rollout.is_some();
            !uses_connections || (!rolls_out && is_settled(&desired.connections.config_maps, observed, now))
        }
        _ => false,
    };
    let config_maps = observed.children.config_maps.iter().map(AsRef::as_ref);
    config_maps
        .filter(|config_map| is_unused(config_map) && is_replaced(config_map))
        .collect()
}

/// Whether the config of a deletion Job belongs to neither the schema that is applied, nor the one that is being applied. Where the
/// pipeline is no longer to be deleted with its data, it is deleted elsewhere.
fn is_of_no_schema(config_map: &ConfigMap, desired: &Desired, schema: &SchemaStatus) -> bool {
    let hash = config_map.labels().get(labels::SCHEMA_HASH);
    let is_desired = desired
        .deletion
        .config_maps
        .iter()
        .any(|desired| desired.name_any() == config_map.name_any());
    let is_recorded = hash.is_some() && (hash == schema.applied_hash.as_ref() || hash == schema.attempted_hash.as_ref());
    !is_desired && !is_recorded
}

/// Whether the desired ConfigMap has existed for the retention time.
fn is_settled(desired: &[ConfigMap], observed: &Observed, now: Timestamp) -> bool {
    let Some(name) = desired.first().map(ResourceExt::name_any) else {
        return false;
    };
    let live = observed
        .children
        .config_maps
        .iter()
        .find(|config_map| config_map.name_any() == name);
    let created = live.and_then(|config_map| config_map.metadata.creation_timestamp.as_ref());
    created.is_some_and(|created| elapsed(created.0, now) >= RETENTION)
}

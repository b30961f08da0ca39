//! Files of pods that are no longer wanted. Pure.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, PodSpec, PodTemplateSpec};
use kube::ResourceExt;

use crate::pipeline::{
    build::{Desired, Given, labels},
    dereference::{self, Observed},
    pods,
};

/// How long a file that nothing refers to is kept, for Jobs that are just being made from an older template.
const KEEP_FILES_FOR: Duration = Duration::from_secs(120);

/// Files that are no longer wanted and that nothing refers to.
pub(super) fn of<'a>(desired: &Desired, observed: &'a Observed, now: Timestamp) -> Vec<&'a ConfigMap> {
    fn template(template: &PodTemplateSpec) -> Option<&PodSpec> {
        template.spec.as_ref()
    }
    let pods = observed
        .pods
        .iter()
        .filter(|pod| pods::is_live(pod))
        .filter_map(|pod| pod.spec.as_ref());
    let jobs = observed
        .jobs
        .iter()
        .filter(|job| dereference::end(job).is_none())
        .filter_map(|job| template(&job.spec.as_ref()?.template));
    let cron_jobs = observed
        .cron_jobs
        .iter()
        .filter_map(|c| template(&c.spec.as_ref()?.job_template.spec.as_ref()?.template));
    let deployments = observed.deployments.iter().filter_map(|d| template(&d.spec.as_ref()?.template));
    let wanted_jobs = desired
        .schema_job
        .iter()
        .chain(&desired.runs)
        .filter_map(|job| template(&job.spec.as_ref()?.template));
    let wanted_cron_job = desired
        .cron_job
        .iter()
        .filter_map(|c| template(&c.spec.as_ref()?.job_template.spec.as_ref()?.template));
    let wanted_deployment = desired.deployment.iter().filter_map(|d| template(&d.spec.as_ref()?.template));
    let used: BTreeSet<String> = pods
        .chain(jobs)
        .chain(cron_jobs)
        .chain(deployments)
        .chain(wanted_jobs)
        .chain(wanted_cron_job)
        .chain(wanted_deployment)
        .filter_map(Given::read)
        .map(|given| given.config_map)
        .collect();

    observed
        .config_maps
        .iter()
        .filter(|file| !used.contains(&file.name_any()) && file.metadata.deletion_timestamp.is_none())
        .filter(|file| match file.labels().get(labels::COMPONENT).map(String::as_str) {
            Some("schema") => true,
            Some("ingest") => has_settled(desired.ingest_config.as_ref(), observed, now),
            Some("worker") => has_settled(desired.worker_config.as_ref(), observed, now),
            _ => false,
        })
        .map(AsRef::as_ref)
        .collect()
}

/// Whether the file that is wanted instead has been there for a while.
fn has_settled(wanted: Option<&ConfigMap>, observed: &Observed, now: Timestamp) -> bool {
    let Some(wanted) = wanted.map(ResourceExt::name_any) else {
        return false;
    };
    let made = observed
        .config_maps
        .iter()
        .find(|file| file.name_any() == wanted)
        .and_then(|file| file.metadata.creation_timestamp.as_ref());
    made.is_some_and(|made| Duration::try_from(now.duration_since(made.0)).unwrap_or_default() >= KEEP_FILES_FOR)
}

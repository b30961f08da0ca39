//! A schema Job that only prints what it would do. It belongs to the plan, not to the operator: it has neither the operator's labels
//! nor an owner, because the pipeline may not exist yet.

use std::collections::BTreeMap;

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ConfigMap, PodTemplateSpec},
};
use kube::core::ObjectMeta;
use userpipeline_api::StoreObject;

use super::{config_map, schema_job::created_objects, task_job::Task};
use crate::pipeline::{
    model::{Installation, PodConfigRef, labels},
    validate::ValidatedPipeline,
};

/// Kubernetes deletes the Job where the plan could not.
const GONE_AFTER_SECONDS: i32 = 600;

/// The Job and the ConfigMap that it reads, both with this name.
/// `created`: see [`created_objects`].
pub fn plan_objects(
    pipeline: &ValidatedPipeline,
    installation: &Installation,
    created: Option<&[StoreObject]>,
    name: &str,
) -> (ConfigMap, Job) {
    let (owner, config) = (&pipeline.owner, &pipeline.schema);
    let metadata = || ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(owner.id.namespace.clone()),
        labels: Some(BTreeMap::from([(
            "app.kubernetes.io/name".to_owned(),
            "userpipeline-plan".to_owned(),
        )])),
        ..ObjectMeta::default()
    };
    let config_ref = PodConfigRef {
        config_map: name.to_owned(),
        mounts: config.mounts.clone(),
    };
    let mut arguments = vec!["--plan", "--cluster", &installation.cluster];
    let created = if pipeline.passes_record(created) {
        created_objects(created)
    } else {
        Vec::new()
    };
    arguments.extend(created.iter().map(String::as_str));
    if pipeline.compares_stores() && pipeline.has_default_replicas() {
        arguments.push("--any-replicas");
    }
    let task = Task {
        component: labels::Component::Schema,
        suffix: "plan",
        command: "apply-schema",
        arguments: &arguments,
        labels: &[],
    };
    let mut job = task.build(owner, &config_ref);
    job.metadata = metadata();
    if let Some(spec) = &mut job.spec {
        spec.ttl_seconds_after_finished = Some(GONE_AFTER_SECONDS);
        let PodTemplateSpec { metadata, spec: pod } = &mut spec.template;
        *metadata = job.metadata.labels.clone().map(|labels| ObjectMeta {
            labels: Some(labels),
            ..ObjectMeta::default()
        });
        if let Some(pod) = pod {
            // The pipeline's account may not exist yet.
            pod.service_account_name = None;
        }
    }
    let mut config_map = config_map::build(owner, labels::Component::Schema, config);
    config_map.metadata = metadata();
    (config_map, job)
}

//! A schema Job that only says what it would do. It is the planner's, not the operator's: without its labels, and without an owner,
//! for there may be no pipeline yet.

use std::collections::BTreeMap;

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ConfigMap, PodTemplateSpec},
};
use kube::core::ObjectMeta;

use super::{Given, Installation, config_map, labels, task::Task};
use crate::pipeline::validate::{Document, Parent};

/// Should nobody clear up, Kubernetes does.
const GONE_AFTER_SECONDS: i32 = 600;

/// The Job and the file that it reads, both of that name.
pub fn build(parent: &Parent, installation: &Installation, document: &Document, name: &str) -> (ConfigMap, Job) {
    let metadata = || ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(parent.id.namespace.clone()),
        labels: Some(BTreeMap::from([(
            "app.kubernetes.io/name".to_owned(),
            "userpipeline-plan".to_owned(),
        )])),
        ..ObjectMeta::default()
    };
    let given = Given {
        config_map: name.to_owned(),
        secrets: document.secrets.clone(),
    };
    let task = Task {
        component: labels::Component::Schema,
        suffix: "plan",
        command: "apply-schema",
        arguments: &["--plan", "--cluster", &installation.cluster],
        labels: &[],
    };
    let mut job = task.build(parent, &given);
    job.metadata = metadata();
    if let Some(spec) = &mut job.spec {
        spec.ttl_seconds_after_finished = Some(GONE_AFTER_SECONDS);
        let PodTemplateSpec { metadata, spec: pod } = &mut spec.template;
        *metadata = job.metadata.labels.clone().map(|labels| ObjectMeta {
            labels: Some(labels),
            ..ObjectMeta::default()
        });
        if let Some(pod) = pod {
            // The pipeline's own may not be there.
            pod.service_account_name = None;
        }
    }
    let mut file = config_map::build(parent, labels::Component::Schema, document);
    file.metadata = metadata();
    (file, job)
}

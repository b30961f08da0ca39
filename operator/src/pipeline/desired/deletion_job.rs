//! The deletion Job: it deletes the pipeline's data outside Kubernetes.

use k8s_openapi::api::batch::v1::Job;

use userpipeline_api::StoreObject;

use super::{schema_job::created_objects, task_job::Task};
use crate::pipeline::model::{Installation, Owner, PodConfig, labels};

/// `created`: what may be deleted, as far as the config names it. None: claims decide, in a pipeline that is older than the record.
pub(super) fn build(owner: &Owner, installation: &Installation, config: &PodConfig, created: Option<&[StoreObject]>, attempt: i32) -> Job {
    let created = created_objects(created);
    let mut arguments = vec!["--cluster", &installation.cluster];
    arguments.extend(created.iter().map(String::as_str));
    let task = Task {
        component: labels::Component::Deletion,
        suffix: &format!("deletion-{attempt}"),
        command: "delete-data",
        arguments: &arguments,
        labels: &[(labels::DELETION_ATTEMPT, &attempt.to_string())],
    };
    task.build(owner, &config.reference())
}

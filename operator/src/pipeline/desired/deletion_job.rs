//! The deletion Job: it deletes the pipeline's data outside Kubernetes.

use k8s_openapi::api::batch::v1::Job;

use super::task_job::Task;
use crate::pipeline::model::{Installation, Owner, PodConfig, labels};

pub(super) fn build(owner: &Owner, installation: &Installation, config: &PodConfig, attempt: i32) -> Job {
    let task = Task {
        component: labels::Component::Deletion,
        suffix: &format!("deletion-{attempt}"),
        command: "delete-data",
        arguments: &["--cluster", &installation.cluster],
        labels: &[(labels::DELETION_ATTEMPT, &attempt.to_string())],
    };
    task.build(owner, &config.reference())
}

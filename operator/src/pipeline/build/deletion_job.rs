//! The deletion Job: it deletes what the pipeline has made outside of Kubernetes.

use k8s_openapi::api::batch::v1::Job;

use super::{Given, Installation, labels, task::Task};
use crate::pipeline::validate::{Document, Parent};

pub(super) fn build(parent: &Parent, installation: &Installation, document: &Document, attempt: i32) -> Job {
    let given = Given {
        config_map: document.config_map.clone(),
        secrets: document.secrets.clone(),
    };
    let task = Task {
        component: labels::Component::Deletion,
        suffix: &format!("deletion-{attempt}"),
        command: "delete-data",
        arguments: &["--cluster", &installation.cluster],
        labels: &[(labels::DELETION_ATTEMPT, &attempt.to_string())],
    };
    task.build(parent, &given)
}

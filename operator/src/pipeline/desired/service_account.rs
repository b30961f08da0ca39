//! The ServiceAccount of all pods of a pipeline: without rights and without a token.

use k8s_openapi::api::core::v1::ServiceAccount;
use userpipeline_api::names;

use crate::pipeline::model::{Owner, labels};

pub fn name(pipeline: &str) -> String {
    names::child(pipeline, "pods", names::LABEL_LIMIT)
}

pub(super) fn build(owner: &Owner) -> ServiceAccount {
    let mut metadata = labels::meta(owner, name(&owner.id.name), labels::Component::Worker);
    // It belongs to no component, because all pods of the pipeline use it.
    if let Some(labels) = &mut metadata.labels {
        labels.remove(labels::COMPONENT);
    }
    ServiceAccount {
        metadata,
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

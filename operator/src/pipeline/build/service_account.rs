//! Who the pods are: nobody in particular, and without a token.

use k8s_openapi::api::core::v1::ServiceAccount;
use userpipeline_api::names;

use super::labels;
use crate::pipeline::validate::Parent;

/// The account's name.
pub fn name(pipeline: &str) -> String {
    names::child(pipeline, "pods", names::LABEL_LIMIT)
}

pub(super) fn build(parent: &Parent) -> ServiceAccount {
    let mut metadata = labels::meta(parent, name(&parent.id.name), labels::Component::Worker);
    // It is of no component: all pods of the pipeline share it.
    if let Some(labels) = &mut metadata.labels {
        labels.remove(labels::COMPONENT);
    }
    ServiceAccount {
        metadata,
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

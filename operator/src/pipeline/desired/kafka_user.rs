//! The `KafkaUser` of a pipeline.

use kube::api::ApiResource;
use serde_json::{Value, json};
use userpipeline_api::DeletionPolicy;

use crate::pipeline::{
    decide::kafka_user::Decision,
    model::{Owner, RequestedUser, labels, labels::Component},
    validate::ValidatedPipeline,
};

/// Strimzi's label for the cluster of a resource.
const CLUSTER: &str = "strimzi.io/cluster";

/// The resource in the version that is served. Without ACLs where the cluster enforces none, because its User Operator refuses them.
pub(super) fn kafka_user(pipeline: &ValidatedPipeline, decision: &Decision) -> Option<Value> {
    let (desired, resource) = (decision.apply.as_ref()?, decision.resource.as_ref()?);
    Some(build(pipeline, pipeline.kafka_user.as_ref()?, desired.acls.as_deref(), resource))
}

fn build(pipeline: &ValidatedPipeline, user: &RequestedUser, acls: Option<&[Value]>, resource: &ApiResource) -> Value {
    // A deletion Job logs in with it, so it must outlive a deletion that starts with the children (`--cascade=foreground`).
    let owner = match pipeline.spec.deletion_policy {
        DeletionPolicy::Retain => pipeline.owner.clone(),
        DeletionPolicy::Delete => Owner {
            reference: None,
            ..pipeline.owner.clone()
        },
    };
    let mut metadata = labels::meta(&owner, user.name.clone(), Component::KafkaUser);
    metadata.labels.get_or_insert_default().extend([
        (CLUSTER.to_owned(), user.cluster.name.clone()),
        (labels::PIPELINE_NAMESPACE.to_owned(), owner.id.namespace.clone()),
    ]);
    let mut spec = json!({"authentication": {"type": user.authentication.as_str()}});
    if let Some(acls) = acls {
        spec["authorization"] = json!({"type": "simple", "acls": acls});
    }
    json!({"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, "spec": spec})
}

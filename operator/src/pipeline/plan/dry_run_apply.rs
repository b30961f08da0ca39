//! A document, applied as a dry run.

use kube::{
    Api, Client, Resource,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
};
use serde_json::Value;
use userpipeline_api::names::PipelineId;

use super::error::{PlanError, refused};

/// The namespace and name of a document.
pub(super) fn id_of(document: &Value, client: &Client) -> PipelineId {
    let metadata = &document["metadata"];
    PipelineId {
        name: metadata["name"].as_str().unwrap_or_default().to_owned(),
        namespace: metadata["namespace"]
            .as_str()
            .unwrap_or_else(|| client.default_namespace())
            .to_owned(),
    }
}

/// The resource as it is, and as the apiserver would store it.
pub(super) async fn apply<K: Resource<DynamicType = ()>>(
    client: &Client,
    id: &PipelineId,
    document: &Value,
    manager: &str,
) -> Result<(Option<Value>, Value), PlanError> {
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &id.namespace, &ApiResource::erase::<K>(&()));
    let what = format!("{} {id}", K::kind(&()));
    let before = api.get_opt(&id.name).await.map_err(refused(what.clone()))?;
    let params = PatchParams::apply(manager).force().dry_run();
    let after = api.patch(&id.name, &params, &Patch::Apply(document)).await.map_err(refused(what))?;
    let value = |object: DynamicObject| serde_json::to_value(object).unwrap_or_default();
    Ok((before.map(value), value(after)))
}

//! Pipelines of the cluster that use the connections of a file.

use kube::{Api, Client, ResourceExt, api::ListParams};
use serde_json::{Value, json};
use userpipeline_api::{GROUP, UserPipeline};

use super::{
    documents::Documents,
    dry_run_apply::id_of,
    error::{PlanError, refused},
};
use crate::pipeline::cache::CachedPipeline;

/// The field manager of dry runs that change no field.
pub const MANAGER: &str = "userpipeline-plan";

/// Pipelines that use a connection of the file and are not in it themselves, as documents that change nothing. One that cannot be
/// read, or is being deleted, has no plan.
pub async fn users(client: &Client, documents: &Documents) -> Result<Vec<Value>, PlanError> {
    let mut users = Vec::new();
    for namespace in namespaces(client, documents) {
        let api: Api<CachedPipeline> = Api::namespaced(client.clone(), &namespace);
        let listed = api.list(&ListParams::default()).await;
        let listed = listed.map_err(refused(format!("listing UserPipelines of {namespace}")))?;
        let pipelines = listed.items.iter().filter_map(|cached| cached.read().ok());
        users.extend(
            pipelines
                .filter(|pipeline| is_user(pipeline, client, documents))
                .map(|pipeline| unchanged(&pipeline)),
        );
    }
    Ok(users)
}

/// Of the connections, each once.
fn namespaces(client: &Client, documents: &Documents) -> Vec<String> {
    let mut namespaces: Vec<String> = documents
        .connections
        .iter()
        .map(|document| id_of(document, client).namespace)
        .collect();
    namespaces.sort();
    namespaces.dedup();
    namespaces
}

fn is_user(pipeline: &UserPipeline, client: &Client, documents: &Documents) -> bool {
    let place = pipeline.namespace().unwrap_or_default();
    let is_at = |document: &Value, name: &str| document["metadata"]["name"] == name && id_of(document, client).namespace == place;
    let is_in_file = documents.pipelines.iter().any(|document| is_at(document, &pipeline.name_any()));
    let mut named = pipeline.spec.connections.iter();
    let uses = named.any(|connection| documents.connections.iter().any(|document| is_at(document, &connection.name)));
    uses && !is_in_file && pipeline.metadata.deletion_timestamp.is_none()
}

fn unchanged(pipeline: &UserPipeline) -> Value {
    json!({
        "apiVersion": format!("{GROUP}/v1alpha1"),
        "kind": "UserPipeline",
        "metadata": {"name": pipeline.name_any(), "namespace": pipeline.namespace()},
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::example;

    #[tokio::test]
    async fn the_users_of_a_connection_are_planned_unless_the_file_has_them() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = Client::try_from(kube::Config::new("http://127.0.0.1:1".parse().unwrap())).unwrap();
        let (moved, _) = example::with_connections();
        let document = |name: &str, namespace: &str| json!({"metadata": {"name": name, "namespace": namespace}});
        for (connection, pipeline, expected) in [
            (document("stores", "demo"), document("other", "demo"), true),
            (document("stores", "demo"), document("users", "demo"), false),
            (document("stores", "elsewhere"), document("other", "demo"), false),
            (document("unused", "demo"), document("other", "demo"), false),
        ] {
            let documents = Documents {
                connections: vec![connection.clone()],
                pipelines: vec![pipeline],
            };
            assert_eq!(is_user(&moved, &client, &documents), expected, "{connection}");
        }
        assert!(!is_user(&example::pipeline(), &client, &Documents::default()));
    }
}

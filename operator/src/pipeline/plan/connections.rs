//! The connections that pipelines of a plan use.

use std::collections::{BTreeMap, BTreeSet};

use kube::{Api, Client, api::ListParams};
use userpipeline_api::UserPipelineConnection;

use super::{
    diff::Change,
    documents::Documents,
    dry_run_apply::{apply, id_of},
    error::{PlanError, refused},
    hosts::of_connection,
};
use crate::pipeline::{cache::CachedConnection, connections::usable, model::connection_id};

/// The connections of the cluster, and those of a file in their place.
#[derive(Debug, Default)]
pub struct PlannedConnections {
    /// What the file would change in them.
    pub changes: Vec<Change>,
    pub(super) all: Vec<CachedConnection>,
    /// The hosts of those of the cluster, by namespace: a file cannot add one.
    pub(super) hosts: BTreeMap<String, BTreeSet<String>>,
}

/// Lists the connections once, and applies those of the file as a dry run by `manager`.
pub async fn connections(client: &Client, documents: &Documents, manager: &str) -> Result<PlannedConnections, PlanError> {
    let (mut changes, mut all) = (Vec::new(), list(client, documents).await?);
    let hosts = hosts(&all);
    for document in &documents.connections {
        let id = id_of(document, client);
        let (before, after) = apply::<UserPipelineConnection>(client, &id, document, manager).await?;
        let connection: CachedConnection = serde_json::from_value(after.clone()).map_err(|e| {
            PlanError::Unreadable(format!(
                "UserPipelineConnection {id} does not match this version of the resource: {e}"
            ))
        })?;
        all.retain(|other| connection_id(other) != connection_id(&connection));
        all.push(connection);
        changes.extend(Change::between("UserPipelineConnection", &id.name, before, Some(after)));
    }
    Ok(PlannedConnections { changes, all, hosts })
}

fn hosts(connections: &[CachedConnection]) -> BTreeMap<String, BTreeSet<String>> {
    let mut hosts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for connection in connections {
        let Ok(spec) = usable(connection) else { continue };
        let namespace = connection_id(connection).namespace;
        hosts.entry(namespace).or_default().extend(of_connection(&spec));
    }
    hosts
}

/// Those of all namespaces, because pipelines of others may use the same resource; where the user may not list them, those of the
/// file's namespaces.
async fn list(client: &Client, documents: &Documents) -> Result<Vec<CachedConnection>, PlanError> {
    let what = "listing UserPipelineConnections";
    let all: Api<CachedConnection> = Api::all(client.clone());
    match all.list(&ListParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 403 => {}
        listed => return Ok(listed.map_err(refused(what))?.items),
    }
    let documents = documents.connections.iter().chain(&documents.pipelines);
    let namespaces: BTreeSet<String> = documents.map(|document| id_of(document, client).namespace).collect();
    let mut found = Vec::new();
    for namespace in namespaces {
        let own: Api<CachedConnection> = Api::namespaced(client.clone(), &namespace);
        let listed = own.list(&ListParams::default()).await;
        found.extend(listed.map_err(refused(format!("{what} of {namespace}")))?.items);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::{
        Json, Router,
        http::{Method, StatusCode, Uri},
        response::IntoResponse,
    };
    use kube::{Resource, ResourceExt};
    use serde_json::{Value, json};

    use super::*;

    /// An apiserver with a connection `stores` in each namespace, which lists those of all namespaces with this code. Returns its
    /// client, and the requests.
    async fn apiserver(code: StatusCode) -> (Client, Arc<Mutex<Vec<String>>>) {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let received = requests.clone();
        let answer = move |method: Method, uri: Uri| async move {
            received.lock().unwrap().push(format!("{method} {}", uri.path()));
            let stores = |namespace: &str, generation: i64| json!({"metadata": {"name": "stores", "namespace": namespace, "generation": generation}});
            let list =
                |items: Vec<Value>| Json(json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items})).into_response();
            let parts: Vec<&str> = uri.path().split('/').collect();
            match parts[4..] {
                ["userpipelineconnections"] if code == StatusCode::OK => list(vec![stores("a", 1), stores("b", 1), stores("c", 1)]),
                ["userpipelineconnections"] => {
                    let refused = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "x", "message": "refused", "code": code.as_u16()});
                    (code, Json(refused)).into_response()
                }
                ["namespaces", namespace, _] => list(vec![stores(namespace, 1)]),
                ["namespaces", namespace, _, _] => Json(stores(namespace, if method == Method::PATCH { 2 } else { 1 })).into_response(),
                _ => StatusCode::NOT_FOUND.into_response(),
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
        (Client::try_from(kube::Config::new(uri)).unwrap(), requests)
    }

    #[tokio::test]
    async fn connections_are_listed_once_and_those_of_the_file_take_their_place() {
        let document = |name: &str, namespace: &str| json!({"metadata": {"name": name, "namespace": namespace}});
        let documents = Documents {
            connections: vec![document("stores", "a")],
            pipelines: vec![document("users", "a"), document("orders", "a"), document("users", "b")],
        };
        for (code, lists, expected) in [
            (StatusCode::OK, 1, vec![("a", 2), ("b", 1), ("c", 1)]),
            // And once in each namespace of the file
            (StatusCode::FORBIDDEN, 3, vec![("a", 2), ("b", 1)]),
        ] {
            let (client, requests) = apiserver(code).await;
            let planned = connections(&client, &documents, "kubectl").await.unwrap();
            let mut found: Vec<(String, i64)> = planned
                .all
                .iter()
                .map(|connection| (connection.namespace().unwrap(), connection.meta().generation.unwrap()))
                .collect();
            found.sort();
            let expected: Vec<(String, i64)> = expected.into_iter().map(|(namespace, n)| (namespace.to_owned(), n)).collect();
            assert_eq!(found, expected, "{code}");
            let requests = requests.lock().unwrap();
            let listed = requests.iter().filter(|request| request.ends_with("/userpipelineconnections"));
            assert_eq!(listed.count(), lists, "{requests:?}");
        }
    }
}

//! The watch of connections.

use std::pin::pin;

use futures::StreamExt;
use kube::{
    Resource, ResourceExt,
    runtime::{
        WatchStreamExt,
        reflector::ObjectRef,
        watcher::{self, Event, watcher},
    },
};
use userpipeline_api::UserPipelineConnection;

use super::{
    compressed::CachedConnection,
    deleted::Departures,
    store::CacheWriter,
    watch::{PAGE, Scope},
};
use crate::pipeline::model::{ConnectionId, connection_id, labels::CHECK_NOW};

/// Watches connections. `changed` receives each one that was created, deleted, given another spec, whose listener was found or changed,
/// or whose check is requested, after the cache has it; and errors.
pub async fn watch_connections(
    scope: Scope,
    mut writer: CacheWriter<UserPipelineConnection>,
    changed: impl Fn(Result<ConnectionId, watcher::Error>),
) {
    let config = watcher::Config::default().page_size(PAGE);
    let mut departures = Departures::new(writer.writer.as_reader());
    let mut events = pin!(watcher(scope.api::<CachedConnection>(), config).default_backoff());
    // Those of a list, which reach the cache all at once.
    let mut listed = Vec::new();
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                changed(Err(error));
                continue;
            }
        };
        let mut ids: Vec<ConnectionId> = departures.find(&event).iter().map(connection_id).collect();
        match &event {
            Event::Init => listed.clear(),
            Event::InitApply(connection) if is_changed(connection, &writer) => listed.push(connection_id(connection)),
            Event::Apply(connection) if is_changed(connection, &writer) => ids.push(connection_id(connection)),
            Event::InitDone => ids.append(&mut listed),
            Event::InitApply(_) | Event::Apply(_) | Event::Delete(_) => {}
        }
        writer.apply(&event);
        for id in ids {
            changed(Ok(id));
        }
    }
}

/// Whether its spec, the listener in its status, or the requested check differs from the cached one. The operator's other writes change
/// nothing that pipelines use.
fn is_changed(connection: &CachedConnection, writer: &CacheWriter<UserPipelineConnection>) -> bool {
    let about = ObjectRef::<CachedConnection>::new(&connection.name_any()).within(&connection.namespace().unwrap_or_default());
    let version = |connection: &CachedConnection| {
        let listener = connection.listener().map(str::to_owned);
        (connection.uid(), connection.meta().generation, listener)
    };
    let cached = writer.writer.as_reader().get(&about);
    cached.is_none_or(|cached| version(&cached) != version(connection) || cached.annotation(CHECK_NOW) != connection.annotation(CHECK_NOW))
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Mutex},
        time::Duration,
    };

    use axum::{Router, body::Body, http::Uri, response::IntoResponse};
    use kube::Client;
    use serde_json::{Value, json};

    use super::*;

    fn connection(name: &str, generation: i64) -> Value {
        json!({
            "metadata": {"name": name, "namespace": "demo", "uid": name, "resourceVersion": "1", "generation": generation},
            "spec": {"postgres": {"host": "db", "database": "users", "credentialsSecretRef": {"name": "db"}}},
        })
    }

    fn annotated(name: &str, generation: i64) -> Value {
        let mut connection = connection(name, generation);
        connection["metadata"]["annotations"] = json!({CHECK_NOW: "1"});
        connection
    }

    fn with_listener(name: &str, generation: i64, servers: &str) -> Value {
        let mut connection = annotated(name, generation);
        connection["status"] = json!({"kafka": {"bootstrapServers": servers}});
        connection
    }

    /// Lists `stores` and `crm`; then the status of `stores` changes, its spec changes, its check is requested, its status changes, its
    /// listener is found, is written again, and changes, and `crm` is deleted.
    async fn apiserver() -> Client {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let app = Router::new().fallback(|uri: Uri| async move {
            if !uri.query().unwrap_or_default().contains("watch=") {
                let items = [connection("stores", 1), connection("crm", 1)];
                let list = json!({"kind": "UserPipelineConnectionList", "apiVersion": "userpipeline.dev/v1alpha1", "metadata": {"resourceVersion": "1"}, "items": items});
                return axum::Json(list).into_response();
            }
            let events = [
                json!({"type": "MODIFIED", "object": connection("stores", 1)}),
                json!({"type": "MODIFIED", "object": connection("stores", 2)}),
                json!({"type": "MODIFIED", "object": annotated("stores", 2)}),
                json!({"type": "MODIFIED", "object": annotated("stores", 2)}),
                json!({"type": "MODIFIED", "object": with_listener("stores", 2, "a:9093")}),
                json!({"type": "MODIFIED", "object": with_listener("stores", 2, "a:9093")}),
                json!({"type": "MODIFIED", "object": with_listener("stores", 2, "b:9093")}),
                json!({"type": "DELETED", "object": connection("crm", 1)}),
            ];
            let events = events.map(|event| Ok::<_, std::io::Error>(format!("{event}\n")));
            Body::from_stream(futures::stream::iter(events).chain(futures::stream::pending())).into_response()
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        Client::try_from(kube::Config::new(uri)).unwrap()
    }

    #[tokio::test]
    async fn only_changed_specs_listeners_and_requested_checks_are_reported_and_the_cache_has_them_by_then() {
        let scope = Scope {
            client: apiserver().await,
            namespace: None,
        };
        let writer = CacheWriter::default();
        let store = writer.cache().store().clone();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let reported = seen.clone();
        let task = tokio::spawn(watch_connections(scope, writer, move |changed| {
            let name = changed.unwrap().name;
            let cached = store.get(&ObjectRef::new(&name).within("demo"));
            reported
                .lock()
                .unwrap()
                .push((name, cached.and_then(|cached| cached.meta().generation)));
        }));
        while seen.lock().unwrap().len() < 7 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let expected = [
            ("stores", Some(1)),
            ("crm", Some(1)),
            ("stores", Some(2)),
            ("stores", Some(2)),
            ("stores", Some(2)),
            ("stores", Some(2)),
            ("crm", None),
        ];
        assert_eq!(
            *seen.lock().unwrap(),
            expected.map(|(name, generation)| (name.to_owned(), generation))
        );
        task.abort();
    }
}

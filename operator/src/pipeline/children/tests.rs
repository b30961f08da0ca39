//! A list with an optional kind.

use std::{
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use axum::{
    Router,
    http::{StatusCode, Uri},
    response::{IntoResponse, Json, Response},
};
use k8s_openapi::api::core::v1::Endpoints;
use kube::{Client, Config};
use serde_json::json;

use super::*;
use crate::pipeline::cache::{Scope, watch_children};

children! {
    endpoints: Endpoints, Optional, |_| false;
}

/// Starts the watch of each kind.
struct Watches(Scope);

impl VisitWriters for Watches {
    fn visit<K: ChildKind>(&mut self, writer: CacheWriter<K>) {
        tokio::spawn(watch_children(self.0.clone(), K::PRESENCE, K::outlives_deletion, writer, |_| ()));
    }
}

/// An apiserver whose discovery answers with this status code.
async fn apiserver(discovery: &'static AtomicU16) -> Client {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new().fallback(move |uri: Uri| async move { answer(&uri, discovery.load(Ordering::SeqCst)) });
    tokio::spawn(async move { axum::serve(listener, app).await });
    Client::try_from(Config::new(address.parse().unwrap())).unwrap()
}

fn answer(uri: &Uri, discovery: u16) -> Response {
    if uri.path() != "/api/v1" {
        let list = json!({"kind": "EndpointsList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": []});
        return Json(list).into_response();
    }
    let resource = json!({"name": "endpoints", "singularName": "", "namespaced": true, "kind": "Endpoints", "verbs": ["list"]});
    let body = match discovery {
        200 => json!({"kind": "APIResourceList", "groupVersion": "v1", "resources": [resource]}),
        code => json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "x", "message": "", "code": code}),
    };
    (StatusCode::from_u16(discovery).unwrap(), Json(body)).into_response()
}

async fn usable(caches: &ChildCaches, within: Duration) -> bool {
    tokio::time::timeout(within, caches.are_usable()).await == Ok(true)
}

fn id() -> PipelineId {
    PipelineId {
        namespace: "demo".into(),
        name: "users".into(),
    }
}

fn caches(client: Client) -> ChildCaches {
    let writers = ChildWriters::default();
    let caches = writers.caches();
    writers.each(&mut Watches(Scope { client, namespace: None }));
    caches
}

#[tokio::test]
async fn given_discovery_answers_not_found_then_the_caches_do_not_wait_for_the_kind() {
    static DISCOVERY: AtomicU16 = AtomicU16::new(404);
    let caches = caches(apiserver(&DISCOVERY).await);
    assert!(usable(&caches, Duration::from_secs(5)).await);
    assert!(caches.of_pipeline(&id()).absent.contains("Endpoints"));
}

#[tokio::test]
async fn given_discovery_fails_then_the_kind_is_not_taken_for_absent() {
    static DISCOVERY: AtomicU16 = AtomicU16::new(503);
    let caches = caches(apiserver(&DISCOVERY).await);
    assert!(!usable(&caches, Duration::from_millis(300)).await);
    DISCOVERY.store(200, Ordering::SeqCst);
    assert!(usable(&caches, Duration::from_secs(10)).await);
    assert!(caches.of_pipeline(&id()).absent.is_empty());
}

/// Records names instead of sending requests.
#[derive(Default)]
struct Names(std::sync::Mutex<Vec<String>>);

impl Names {
    fn push(&self, verb: &str, name: &str) {
        self.0.lock().unwrap().push(format!("{verb} {name}"));
    }
}

impl VisitChildren for Names {
    type Error = ();

    async fn apply<K: ChildKind>(&self, _: &[Arc<K>], desired: K) -> Result<Arc<K>, ()> {
        self.push("apply", &desired.name_any());
        Ok(Arc::new(desired))
    }

    async fn delete<K: ChildKind>(&self, observed: &K) -> Result<(), ()> {
        self.push("delete", &observed.name_any());
        Ok(())
    }
}

fn named(name: &str) -> Endpoints {
    serde_json::from_value(json!({"metadata": {"name": name}})).unwrap()
}

#[tokio::test]
async fn optional_children_are_applied_unless_absent_and_deleted_when_no_longer_desired() {
    let names = Names::default();
    let desired = DesiredChildren {
        endpoints: vec![named("new")],
    };
    let observed = Children {
        endpoints: vec![Arc::new(named("old")), Arc::new(named("new"))],
        ..Children::default()
    };
    observed.no_longer_desired(&[&desired]).delete_all(&names).await;
    desired.clone().apply_all(&observed, &names).await.unwrap();
    let absent = Children {
        absent: ["Endpoints"].into(),
        ..Children::default()
    };
    desired.apply_all(&absent, &names).await.unwrap();
    assert_eq!(*names.0.lock().unwrap(), ["delete old", "apply new"]);
}

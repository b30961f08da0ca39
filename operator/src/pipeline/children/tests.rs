//! A list with an optional kind.

use std::{
    sync::atomic::{AtomicU16, AtomicUsize, Ordering::SeqCst},
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
use crate::pipeline::cache::{Absence, ChildEvent, Scope, watch_children};

children! {
    endpoints: Endpoints, Optional, |_| false;
}

/// The status codes of an apiserver's answers.
struct Apiserver {
    discovery: AtomicU16,
    list_and_watch: AtomicU16,
    presence_changes: AtomicUsize,
}

impl Apiserver {
    fn new(discovery: u16, list_and_watch: u16) -> &'static Self {
        Box::leak(Box::new(Self {
            discovery: AtomicU16::new(discovery),
            list_and_watch: AtomicU16::new(list_and_watch),
            presence_changes: AtomicUsize::new(0),
        }))
    }

    async fn client(&'static self) -> Client {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().fallback(move |uri: Uri| self.answer(uri));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Client::try_from(Config::new(address.parse().unwrap())).unwrap()
    }

    async fn answer(&self, uri: Uri) -> Response {
        if uri.path() == "/api/v1" {
            let resource = json!({"name": "endpoints", "singularName": "", "namespaced": true, "kind": "Endpoints", "verbs": ["list"]});
            let resources = json!({"kind": "APIResourceList", "groupVersion": "v1", "resources": [resource]});
            return respond(self.discovery.load(SeqCst), resources);
        }
        if uri.query().is_some_and(|query| query.contains("watch=")) {
            return self.watch().await;
        }
        let metadata = json!({"name": "a", "namespace": "demo", "uid": "1", "labels": {"userpipeline.dev/pipeline": "users"}});
        let list =
            json!({"kind": "EndpointsList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": [{"metadata": metadata}]});
        respond(self.list_and_watch.load(SeqCst), list)
    }

    /// A watch ends without an error when the kind vanishes.
    async fn watch(&self) -> Response {
        let code = self.list_and_watch.load(SeqCst);
        if code != 200 {
            return respond(code, json!(null));
        }
        while self.list_and_watch.load(SeqCst) == 200 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        StatusCode::OK.into_response()
    }

    async fn caches(&'static self) -> ChildCaches {
        let writers = ChildWriters::default();
        let caches = writers.caches();
        let client = self.client().await;
        writers.each(&mut Watches(self, Scope { client, namespace: None }));
        caches
    }
}

fn respond(code: u16, body: serde_json::Value) -> Response {
    let body = match code {
        200 => body,
        code => json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "x", "message": "refused", "code": code}),
    };
    (StatusCode::from_u16(code).unwrap(), Json(body)).into_response()
}

/// Starts the watch of each kind.
struct Watches(&'static Apiserver, Scope);

impl VisitWriters for Watches {
    fn visit<K: ChildKind>(&mut self, writer: CacheWriter<K>) {
        let apiserver = self.0;
        let report = |event| {
            if matches!(event, ChildEvent::PresenceChanged) {
                apiserver.presence_changes.fetch_add(1, SeqCst);
            }
        };
        tokio::spawn(watch_children(self.1.clone(), K::PRESENCE, K::outlives_deletion, writer, report));
    }
}

async fn usable(caches: &ChildCaches, within: Duration) -> bool {
    tokio::time::timeout(within, caches.are_usable()).await == Ok(true)
}

/// Waits until the kind is present with its one object, or absent with none.
async fn eventually_present(caches: &ChildCaches, present: bool) {
    let is_as_expected = || {
        let children = caches.of_pipeline(&id());
        children.absent.is_empty() == present && children.endpoints.len() == usize::from(present)
    };
    let wait = async {
        while !is_as_expected() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), wait).await;
    waited.unwrap_or_else(|_| panic!("present: {present} is not reached"));
}

fn id() -> PipelineId {
    PipelineId {
        namespace: "demo".into(),
        name: "users".into(),
    }
}

#[tokio::test]
async fn an_optional_kind_may_come_go_and_come_again() {
    let apiserver = Apiserver::new(404, 404);
    let caches = apiserver.caches().await;
    assert!(usable(&caches, Duration::from_secs(5)).await);
    eventually_present(&caches, false).await;
    for (code, changes) in [(200, 2), (404, 3), (200, 4)] {
        apiserver.list_and_watch.store(code, SeqCst);
        eventually_present(&caches, code == 200).await;
        assert_eq!(apiserver.presence_changes.load(SeqCst), changes, "{code}");
    }
}

#[tokio::test]
async fn an_optional_kind_without_the_right_to_list_it_is_absent_until_the_right_is_granted() {
    let apiserver = Apiserver::new(200, 403);
    let caches = apiserver.caches().await;
    assert!(usable(&caches, Duration::from_secs(5)).await);
    eventually_present(&caches, false).await;
    apiserver.list_and_watch.store(200, SeqCst);
    eventually_present(&caches, true).await;
}

#[tokio::test]
async fn given_the_apiserver_fails_then_an_optional_kind_is_not_taken_for_absent() {
    let apiserver = Apiserver::new(503, 503);
    let caches = apiserver.caches().await;
    assert!(!usable(&caches, Duration::from_millis(300)).await);
    assert!(caches.of_pipeline(&id()).absent.is_empty());
    apiserver.list_and_watch.store(200, SeqCst);
    assert!(usable(&caches, Duration::from_secs(20)).await);
    eventually_present(&caches, true).await;
}

#[tokio::test]
async fn a_required_kind_is_waited_for() {
    for code in [403, 404] {
        let (writer, client) = (CacheWriter::<Endpoints>::default(), Apiserver::new(404, code).client().await);
        let cache = writer.cache();
        tokio::spawn(watch_children(
            Scope { client, namespace: None },
            Presence::Required,
            |_| false,
            writer,
            |_| (),
        ));
        assert!(
            tokio::time::timeout(Duration::from_millis(300), cache.is_usable()).await.is_err(),
            "{code}"
        );
        assert!(!cache.is_absent());
    }
}

#[tokio::test]
async fn a_missing_right_matters_only_for_a_kind_that_is_served() {
    let forbidden = Absence::Forbidden("no right".to_owned());
    for (code, discovery, expected) in [
        (404, 200, Some(Absence::NotServed)),
        (403, 404, Some(Absence::NotServed)),
        (403, 200, Some(forbidden.clone())),
        (403, 403, Some(forbidden)),
        (500, 404, None),
    ] {
        let client = Apiserver::new(discovery, 200).client().await;
        let status = kube::core::Status::failure("no right", "x").with_code(code);
        let absence = Absence::of::<Endpoints>(&kube::Error::Api(status.boxed()), &client).await;
        assert_eq!(absence, expected, "{code}, discovery {discovery}");
    }
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

    async fn apply<K: ChildKind>(&self, _: &[Arc<K>], desired: K) -> Result<Option<Arc<K>>, ()> {
        self.push("apply", &desired.name_any());
        Ok(Some(Arc::new(desired)))
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

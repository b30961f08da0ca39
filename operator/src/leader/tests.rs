//! Candidates against a fake apiserver that stores one Lease.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicI64, Ordering},
};

use axum::{
    Router,
    body::Bytes,
    http::{Method, StatusCode},
    response::{IntoResponse, Json, Response},
};
use serde_json::{Value, json};

use super::*;

const TIMING: Timing = Timing {
    duration: Duration::from_secs(2),
    renew_deadline: Duration::from_millis(1200),
    retry: Duration::from_millis(50),
    stop_within: Duration::from_millis(300),
};

#[derive(Default)]
struct Server {
    lease: Mutex<Option<Value>>,
    down: AtomicBool,
    /// Answers arrive later than their effect.
    slow: AtomicBool,
    version: AtomicI64,
}

impl Server {
    fn put(&self, mut lease: Value) -> Response {
        lease["metadata"]["resourceVersion"] = json!(self.version.fetch_add(1, Ordering::SeqCst).to_string());
        *self.lease.lock().unwrap() = Some(lease.clone());
        Json(lease).into_response()
    }

    fn answer(&self, method: &Method, body: &Bytes) -> Response {
        let refuse = |code: u16, reason: &str| {
            let status =
                json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": "refused"});
            (StatusCode::from_u16(code).unwrap(), Json(status)).into_response()
        };
        if self.down.load(Ordering::SeqCst) {
            return refuse(503, "ServiceUnavailable");
        }
        let stored = self.lease.lock().unwrap().clone();
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        match (method, stored) {
            (&Method::GET, Some(lease)) => Json(lease).into_response(),
            (&Method::POST, None) => {
                let mut lease = body;
                lease["metadata"]["uid"] = json!("u");
                self.put(lease)
            }
            (&Method::POST, Some(_)) => refuse(409, "AlreadyExists"),
            (&Method::PATCH, Some(mut lease)) => {
                if body["metadata"]["resourceVersion"] != lease["metadata"]["resourceVersion"] {
                    return refuse(409, "Conflict");
                }
                for (key, value) in body["spec"].as_object().unwrap() {
                    lease["spec"][key] = value.clone();
                }
                self.put(lease)
            }
            _ => refuse(404, "NotFound"),
        }
    }

    fn holder(&self) -> Option<String> {
        Some(self.lease.lock().unwrap().as_ref()?["spec"]["holderIdentity"].as_str()?.to_owned())
    }

    async fn until(&self, condition: impl Fn(&Self) -> bool) -> Duration {
        let start = Instant::now();
        while !condition(self) {
            assert!(start.elapsed() < Duration::from_secs(10), "holder: {:?}", self.holder());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        start.elapsed()
    }
}

/// A candidate, how many work at the same time, and its end.
struct Instance {
    works: Arc<AtomicBool>,
    shutdown: CancellationToken,
    health: watch::Receiver<Readiness>,
    task: JoinHandle<Result<(), LeaderError>>,
}

async fn serve() -> (Arc<Server>, Client) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let server = Arc::new(Server::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let serving = server.clone();
    let app = Router::new().fallback(move |method: Method, body: Bytes| async move {
        let answer = serving.answer(&method, &body);
        if serving.slow.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        answer
    });
    tokio::spawn(async move { axum::serve(listener, app).await });
    (server, Client::try_from(kube::Config::new(uri)).unwrap())
}

fn start(client: &Client, identity: &str) -> Instance {
    let settings = LeaseSettings {
        namespace: "system".into(),
        name: "operator".into(),
        identity: identity.into(),
    };
    let (sender, health) = watch::channel(Ok(()));
    let (works, shutdown) = (Arc::new(AtomicBool::new(false)), CancellationToken::new());
    let flag = works.clone();
    let work = move |stop: CancellationToken| async move {
        flag.store(true, Ordering::SeqCst);
        stop.cancelled().await;
        flag.store(false, Ordering::SeqCst);
    };
    let task = tokio::spawn(lead(
        client.clone(),
        settings,
        TIMING,
        Metrics::new(),
        sender,
        shutdown.clone(),
        work,
    ));
    Instance {
        works,
        shutdown,
        health,
        task,
    }
}

#[tokio::test]
async fn the_lease_is_released_at_a_shutdown_and_taken_at_once() {
    let (server, client) = serve().await;
    let a = start(&client, "a");
    server.until(|server| server.holder().as_deref() == Some("a")).await;
    let b = start(&client, "b");
    tokio::time::sleep(TIMING.duration * 2).await;
    assert!(!b.works.load(Ordering::SeqCst), "a renews");
    a.shutdown.cancel();
    let waited = server.until(|server| server.holder().as_deref() == Some("b")).await;
    assert!(waited < TIMING.duration / 2, "{waited:?}");
    assert!(a.task.await.unwrap().is_ok() && !a.works.load(Ordering::SeqCst));
    b.shutdown.cancel();
    assert!(b.task.await.unwrap().is_ok());
    assert_eq!(server.holder(), None);
}

#[tokio::test]
async fn a_candidate_that_shuts_down_while_it_acquires_the_lease_releases_it() {
    let (server, client) = serve().await;
    server.put(json!({"metadata": {"name": "operator", "uid": "u"}, "spec": {}}));
    server.slow.store(true, Ordering::SeqCst);
    let a = start(&client, "a");
    server.until(|server| server.holder().as_deref() == Some("a")).await;
    a.shutdown.cancel();
    assert!(a.task.await.unwrap().is_ok());
    assert_eq!(server.holder(), None);
}

#[tokio::test]
async fn a_deleted_lease_is_created_again_by_its_holder_and_no_standby_leads() {
    let (server, client) = serve().await;
    let a = start(&client, "a");
    server.until(|server| server.holder().is_some()).await;
    let b = start(&client, "b");
    tokio::time::sleep(TIMING.retry * 4).await;
    for _ in 0..5 {
        *server.lease.lock().unwrap() = None;
        server.until(|server| server.holder().as_deref() == Some("a")).await;
    }
    assert!(a.works.load(Ordering::SeqCst) && !b.works.load(Ordering::SeqCst));
    assert_eq!(*a.health.borrow(), Ok(()));
}

#[tokio::test]
async fn a_leader_that_cannot_renew_stops_before_another_may_lead() {
    let (server, client) = serve().await;
    let a = start(&client, "a");
    server.until(|_| a.works.load(Ordering::SeqCst)).await;
    server.down.store(true, Ordering::SeqCst);
    let waited = server.until(|_| !a.works.load(Ordering::SeqCst)).await;
    assert!(waited < TIMING.duration, "{waited:?}");
    assert!(matches!(a.task.await.unwrap(), Err(LeaderError::NotRenewed(_))));
    assert!(a.health.borrow().is_err());
}

#[tokio::test]
async fn a_leader_whose_lease_another_took_stops() {
    let (server, client) = serve().await;
    let a = start(&client, "a");
    server.until(|_| a.works.load(Ordering::SeqCst)).await;
    let mut taken = server.lease.lock().unwrap().clone().unwrap();
    taken["spec"]["holderIdentity"] = json!("b");
    server.put(taken);
    assert!(matches!(a.task.await.unwrap(), Err(LeaderError::Lost(holder)) if holder == "b"));
    assert_eq!(server.holder().as_deref(), Some("b"), "it is not released");
}

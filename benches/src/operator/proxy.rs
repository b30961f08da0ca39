//! A proxy between the operator and the API server that counts requests, and gives Jobs to the controller of the bench.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use anyhow::Result;
use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
};
use kube::Client;
use serde_json::{Value, json};

use super::controllers::MANAGED_BY;

struct Counts {
    requests: usize,
    watches: usize,
    writes: BTreeMap<String, usize>,
    last_write: Instant,
}

#[derive(Clone)]
pub struct Proxy {
    counts: Arc<Mutex<Counts>>,
    client: Client,
    pub address: SocketAddr,
}

impl Proxy {
    /// Listens on loopback and forwards requests through `client`.
    pub async fn start(client: Client) -> Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let proxy = Self {
            counts: Arc::new(Mutex::new(Counts {
                requests: 0,
                watches: 0,
                writes: BTreeMap::new(),
                last_write: Instant::now(),
            })),
            client,
            address: listener.local_addr()?,
        };
        let app = Router::new().fallback(pass).with_state(proxy.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Ok(proxy)
    }

    fn with<T>(&self, use_it: impl FnOnce(&mut Counts) -> T) -> T {
        use_it(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// All requests except those for the lease.
    pub fn requests(&self) -> usize {
        self.with(|counts| counts.requests)
    }

    /// Watches, and lists that start a watch.
    pub fn watches(&self) -> usize {
        self.with(|counts| counts.watches)
    }

    /// Writes by verb and kind.
    pub fn writes(&self) -> BTreeMap<String, usize> {
        self.with(|counts| counts.writes.clone())
    }

    pub fn last_write(&self) -> Instant {
        self.with(|counts| counts.last_write)
    }

    fn note(&self, method: &Method, path: &str, query: &str) {
        if path.contains("/leases") {
            return;
        }
        // `…/namespaces/NS/KIND/NAME`.
        let mut parts = path.split('/').skip_while(|part| *part != "namespaces").skip(2);
        let (kind, named) = (parts.next().unwrap_or_default(), parts.next().is_some());
        self.with(|counts| {
            counts.requests += 1;
            if *method != Method::GET {
                *counts.writes.entry(format!("{method} {kind}")).or_default() += 1;
                counts.last_write = Instant::now();
            } else if query.contains("watch=") || !named {
                counts.watches += 1;
            }
        });
    }
}

async fn pass(State(proxy): State<Proxy>, request: Request) -> Response {
    proxy.note(request.method(), request.uri().path(), request.uri().query().unwrap_or_default());
    let (mut parts, body) = request.into_parts();
    parts.headers.remove("host");
    let Ok(body) = axum::body::to_bytes(body, 4 << 20).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let body = given_to_bench(&parts.method, parts.uri.path(), &body).unwrap_or_else(|| body.to_vec());
    // The client sets it.
    parts.headers.remove("content-length");
    let request = axum::http::Request::from_parts(parts, kube::client::Body::from(body));
    match proxy.client.send(request).await {
        Ok(answer) => {
            let (mut parts, body) = answer.into_parts();
            // The body is streamed in chunks of its own.
            parts.headers.remove("transfer-encoding");
            Response::from_parts(parts, Body::new(body))
        }
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}

/// The body of a request that applies a Job, which the controller of the bench is to run.
fn given_to_bench(method: &Method, path: &str, body: &[u8]) -> Option<Vec<u8>> {
    if *method != Method::PATCH || !path.contains("/jobs/") {
        return None;
    }
    let mut job: Value = serde_json::from_slice(body).ok()?;
    job["spec"].as_object_mut()?.insert("managedBy".to_owned(), json!(MANAGED_BY));
    Some(job.to_string().into_bytes())
}

//! Intercepts the writes of the operator to the API server: counts them, and injects a fault into one of them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use http::{Method, Request, Response, StatusCode};
use kube::client::{Body, Client};
use serde_json::json;
use tokio::sync::Notify;
use tower::{BoxError, service_fn};

use crate::strimzi::resources::GROUP;

const DELAY: Duration = Duration::from_secs(3);
/// A question that has the form of a write.
const ACCESS_REVIEWS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The operator crashes before the request is sent.
    CrashBefore,
    /// The operator crashes after the write, before it receives the response.
    CrashAfter,
    /// 409, and nothing is written.
    Conflict,
    /// 429, and nothing is written.
    TooManyRequests,
    /// 500, and nothing is written.
    ServerError,
    /// The connection breaks after the write.
    Dropped,
    /// The request is delayed.
    Stalled,
}

impl Fault {
    pub const ALL: [Self; 7] = [
        Self::CrashBefore,
        Self::CrashAfter,
        Self::Conflict,
        Self::TooManyRequests,
        Self::ServerError,
        Self::Dropped,
        Self::Stalled,
    ];
}

/// How many objects the operator created and deleted, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteCounts {
    pub created: BTreeMap<String, usize>,
    pub deleted: BTreeMap<String, usize>,
}

struct State {
    fault: Option<(usize, Fault)>,
    hit: bool,
    writes: Vec<String>,
    write_counts: WriteCounts,
    /// Writes that the API server has not answered yet.
    in_flight: usize,
    last: Instant,
}

pub struct WriteInterceptor {
    state: Mutex<State>,
    crash: Notify,
    hides_strimzi: AtomicBool,
}

impl WriteInterceptor {
    /// `fault`: the number of a write, from 0, and its fault.
    pub fn new(fault: Option<(usize, Fault)>) -> Self {
        let state = State {
            fault,
            hit: false,
            writes: Vec::new(),
            write_counts: WriteCounts::default(),
            in_flight: 0,
            last: Instant::now(),
        };
        Self {
            state: Mutex::new(state),
            crash: Notify::new(),
            hides_strimzi: AtomicBool::new(false),
        }
    }

    /// Whether the API server answers the operator as if Strimzi's definitions were not installed. They belong to the whole cluster, so a
    /// trial cannot remove them.
    pub fn hide_strimzi(&self, hides: bool) {
        self.hides_strimzi.store(hides, Ordering::SeqCst);
    }

    fn is_hidden(&self, path: &str) -> bool {
        self.hides_strimzi.load(Ordering::SeqCst) && path.starts_with(&format!("/apis/{GROUP}"))
    }

    fn with<T>(&self, use_it: impl FnOnce(&mut State) -> T) -> T {
        use_it(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Resolves when the operator must crash.
    pub async fn crashed(&self) {
        self.crash.notified().await;
    }

    /// Whether the fault was injected.
    pub fn hit(&self) -> bool {
        self.with(|state| state.hit)
    }

    pub fn writes(&self) -> Vec<String> {
        self.with(|state| state.writes.clone())
    }

    pub fn write_counts(&self) -> WriteCounts {
        self.with(|state| state.write_counts.clone())
    }

    /// The time since the last write, zero while one is delayed or under way.
    pub fn quiet_for(&self) -> Duration {
        self.with(|state| {
            if state.in_flight == 0 {
                state.last.elapsed()
            } else {
                Duration::ZERO
            }
        })
    }

    /// Records a write and returns its fault.
    fn record(&self, request: &Request<Body>) -> Option<Fault> {
        self.with(|state| {
            let number = state.writes.len();
            state.writes.push(format!("{} {}", request.method(), request.uri().path()));
            state.last = Instant::now();
            let (_, fault) = state.fault.take_if(|(at, _)| *at == number)?;
            state.hit = true;
            Some(fault)
        })
    }

    /// Sends a write, and counts it. A crash of the operator does not take back what it has sent.
    async fn send(self: &Arc<Self>, client: Client, request: Request<Body>, delay: Duration) -> Result<Response<Body>, BoxError> {
        let interceptor = self.clone();
        interceptor.with(|state| state.in_flight += 1);
        let sent = tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            let (method, path) = (request.method().clone(), request.uri().path().to_owned());
            let answer = client.send(request).await;
            let status = answer.as_ref().map_or(StatusCode::SERVICE_UNAVAILABLE, Response::status);
            interceptor.count(&method, &path, status);
            answer
        });
        Ok(sent.await??)
    }

    fn count(&self, method: &Method, path: &str, status: StatusCode) {
        // `…/namespaces/NS/KIND/NAME`, and without the name where one is created by POST.
        let kind = path
            .split('/')
            .skip_while(|part| *part != "namespaces")
            .nth(2)
            .unwrap_or_default()
            .to_owned();
        self.with(|state| {
            state.in_flight -= 1;
            state.last = Instant::now();
            if status == StatusCode::CREATED {
                *state.write_counts.created.entry(kind).or_default() += 1;
            } else if *method == Method::DELETE && status.is_success() {
                *state.write_counts.deleted.entry(kind).or_default() += 1;
            }
        });
    }
}

/// A client whose requests pass through `interceptor`.
pub fn client(client: Client, interceptor: Arc<WriteInterceptor>) -> Client {
    let namespace = client.default_namespace().to_owned();
    let service = service_fn(move |request: Request<Body>| {
        let (client, interceptor) = (client.clone(), interceptor.clone());
        async move { pass(client, request, &interceptor).await }
    });
    Client::new(service, namespace)
}

async fn pass(client: Client, request: Request<Body>, interceptor: &Arc<WriteInterceptor>) -> Result<Response<Body>, BoxError> {
    let path = request.uri().path();
    if interceptor.is_hidden(path) {
        return refusal(StatusCode::NOT_FOUND, "NotFound");
    }
    // The operator does not react to failed Events.
    if request.method() == Method::GET || path == ACCESS_REVIEWS || path.ends_with("/events") || path.contains("/events/") {
        return Ok(client.send(request).await?);
    }
    let fault = interceptor.record(&request);
    let delay = if fault == Some(Fault::Stalled) { DELAY } else { Duration::ZERO };
    match fault {
        Some(Fault::CrashBefore) => {
            interceptor.crash.notify_one();
            return std::future::pending().await;
        }
        Some(Fault::Conflict) => return refusal(StatusCode::CONFLICT, "Conflict"),
        Some(Fault::TooManyRequests) => return refusal(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests"),
        Some(Fault::ServerError) => return refusal(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
        Some(Fault::CrashAfter | Fault::Dropped | Fault::Stalled) | None => {}
    }
    let answer = interceptor.send(client, request, delay).await?;
    match fault {
        Some(Fault::CrashAfter) => {
            interceptor.crash.notify_one();
            std::future::pending().await
        }
        Some(Fault::Dropped) => Err("connection reset by peer".into()),
        _ => Ok(answer),
    }
}

fn refusal(status: StatusCode, reason: &str) -> Result<Response<Body>, BoxError> {
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status.as_u16(), "reason": reason, "message": "injected by a test"});
    Ok(Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(Body::from(body.to_string().into_bytes()))?)
}

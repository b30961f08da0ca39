//! Between the operator and the apiserver: writes are counted, and one of them goes wrong.

use std::{
    collections::BTreeMap,
    sync::Arc,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use http::{Method, Request, Response, StatusCode};
use kube::client::{Body, Client};
use serde_json::json;
use tokio::sync::Notify;
use tower::{BoxError, service_fn};

const STALL: Duration = Duration::from_secs(3);

/// What goes wrong at a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The operator crashes before it is sent.
    CrashBefore,
    /// The operator crashes when it was taken, before it knows.
    CrashAfter,
    /// It is answered 409 Conflict, and not taken.
    Conflict,
    /// It is answered 429 Too Many Requests, and not taken.
    TooManyRequests,
    /// It is answered 500, and not taken.
    ServerError,
    /// It was taken, and the connection breaks.
    Dropped,
    /// It takes its time.
    Stalled,
}

impl Fault {
    /// All of them.
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
pub struct Tally {
    /// Created.
    pub created: BTreeMap<String, usize>,
    /// Deleted.
    pub deleted: BTreeMap<String, usize>,
}

struct State {
    fault: Option<(usize, Fault)>,
    hit: bool,
    writes: Vec<String>,
    tally: Tally,
    last: Instant,
}

/// What passes between the operator and the apiserver.
pub struct Wire {
    state: Mutex<State>,
    crash: Notify,
}

impl Wire {
    /// A wire on which the write of a number, from 0, goes wrong.
    pub fn new(fault: Option<(usize, Fault)>) -> Self {
        let state = State {
            fault,
            hit: false,
            writes: Vec::new(),
            tally: Tally::default(),
            last: Instant::now(),
        };
        Self {
            state: Mutex::new(state),
            crash: Notify::new(),
        }
    }

    fn with<T>(&self, use_it: impl FnOnce(&mut State) -> T) -> T {
        use_it(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The operator is to crash now.
    pub async fn crashed(&self) {
        self.crash.notified().await;
    }

    /// Whether the fault has happened.
    pub fn hit(&self) -> bool {
        self.with(|state| state.hit)
    }

    /// The writes there were.
    pub fn writes(&self) -> Vec<String> {
        self.with(|state| state.writes.clone())
    }

    /// What was created and deleted.
    pub fn tally(&self) -> Tally {
        self.with(|state| state.tally.clone())
    }

    /// How long nothing was written.
    pub fn quiet_for(&self) -> Duration {
        self.with(|state| state.last.elapsed())
    }

    /// Notes a write; the fault that it meets, if any.
    fn note(&self, request: &Request<Body>) -> Option<Fault> {
        self.with(|state| {
            let number = state.writes.len();
            state.writes.push(format!("{} {}", request.method(), request.uri().path()));
            state.last = Instant::now();
            let (_, fault) = state.fault.take_if(|(at, _)| *at == number)?;
            state.hit = true;
            Some(fault)
        })
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
            state.last = Instant::now();
            if status == StatusCode::CREATED {
                *state.tally.created.entry(kind).or_default() += 1;
            } else if *method == Method::DELETE && status.is_success() {
                *state.tally.deleted.entry(kind).or_default() += 1;
            }
        });
    }
}

/// A client that asks through `client`, over `wire`.
pub fn client(client: Client, wire: Arc<Wire>) -> Client {
    let namespace = client.default_namespace().to_owned();
    let service = service_fn(move |request: Request<Body>| {
        let (client, wire) = (client.clone(), wire.clone());
        async move { pass(client, request, &wire).await }
    });
    Client::new(service, namespace)
}

async fn pass(client: Client, request: Request<Body>, wire: &Wire) -> Result<Response<Body>, BoxError> {
    // That an Event could not be told is no reason for anything.
    if request.method() == Method::GET || request.uri().path().ends_with("/events") || request.uri().path().contains("/events/") {
        return Ok(client.send(request).await?);
    }
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let fault = wire.note(&request);
    match fault {
        Some(Fault::CrashBefore) => {
            wire.crash.notify_one();
            return std::future::pending().await;
        }
        Some(Fault::Conflict) => return refusal(StatusCode::CONFLICT, "Conflict"),
        Some(Fault::TooManyRequests) => return refusal(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests"),
        Some(Fault::ServerError) => return refusal(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
        Some(Fault::Stalled) => tokio::time::sleep(STALL).await,
        Some(Fault::CrashAfter | Fault::Dropped) | None => {}
    }
    let answer = client.send(request).await?;
    wire.count(&method, &path, answer.status());
    match fault {
        Some(Fault::CrashAfter) => {
            wire.crash.notify_one();
            std::future::pending().await
        }
        Some(Fault::Dropped) => Err("connection reset by peer".into()),
        _ => Ok(answer),
    }
}

fn refusal(status: StatusCode, reason: &str) -> Result<Response<Body>, BoxError> {
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status.as_u16(), "reason": reason, "message": "a fault of the test's making"});
    Ok(Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(Body::from(body.to_string().into_bytes()))?)
}

//! The source of a trial: serves the pages of a model, with faults.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Result;
use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use kube::Client;
use serde_json::json;
use tokio::{net::TcpListener, task::JoinHandle};

use super::{SourceFault, source_model::SourceModel};
use crate::test_source::address_for_nodes;

#[derive(Default)]
struct PendingFault {
    source_fault: Option<SourceFault>,
    left: usize,
    injected: usize,
}

#[derive(Clone)]
struct Served {
    model: Arc<SourceModel>,
    pending: Arc<Mutex<PendingFault>>,
}

pub struct SourceServer {
    address: SocketAddr,
    served: Served,
    task: JoinHandle<()>,
}

impl SourceServer {
    pub async fn start(client: &Client, model: Arc<SourceModel>) -> Result<Self> {
        let listener = TcpListener::bind((address_for_nodes(client).await?, 0)).await?;
        let address = listener.local_addr()?;
        let served = Served {
            model,
            pending: Arc::default(),
        };
        let router = Router::new().route("/items", get(items)).with_state(served.clone());
        let task = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, served, task })
    }

    /// Reachable from pods.
    pub fn url(&self) -> String {
        format!("http://{}/items", self.address)
    }

    /// The next requests receive the fault.
    pub fn inject(&self, source_fault: SourceFault, times: usize) {
        let pending = PendingFault {
            source_fault: Some(source_fault),
            left: times,
            injected: 0,
        };
        *self.served.pending.lock().unwrap_or_else(PoisonError::into_inner) = pending;
    }

    /// How many requests have received the fault, and how many are pending.
    pub fn injected(&self) -> (usize, usize) {
        let pending = self.served.pending.lock().unwrap_or_else(PoisonError::into_inner);
        (pending.injected, pending.left)
    }
}

impl Drop for SourceServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Served {
    /// The fault of this request. Faults without an effect on this page wait for the next one.
    fn source_fault(&self, page: usize, empty: bool) -> Option<SourceFault> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let source_fault = pending.source_fault.filter(|source_fault| {
            pending.left > 0
                && !(*source_fault == SourceFault::Repeated && page < 2)
                && !(empty && matches!(source_fault, SourceFault::Shrunk | SourceFault::Stale | SourceFault::Repeated))
        })?;
        pending.left -= 1;
        pending.injected += 1;
        Some(source_fault)
    }
}

async fn items(State(served): State<Served>, Query(query): Query<HashMap<String, String>>) -> Response {
    let page = query.get("page").and_then(|text| text.parse().ok()).unwrap_or(1);
    let source_fault = served.source_fault(page, SourceModel::is_after_the_last(page));
    let answer = |page, stale| Json(json!({"items": served.model.page(page, stale)}));
    match source_fault {
        None => answer(page, false).into_response(),
        Some(SourceFault::ServerError) => (StatusCode::INTERNAL_SERVER_ERROR, "oops").into_response(),
        Some(SourceFault::TooManyRequests) => (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "1")]).into_response(),
        Some(SourceFault::Garbage) => ([(header::CONTENT_TYPE, "application/json")], "<html>{\"items\": [").into_response(),
        Some(SourceFault::HalfBody) => {
            // The client can use none of it, so no item counts as served.
            let chunks = [
                Ok(Bytes::from_static(b"{\"items\": [{\"device\": \"half\", ")),
                Err(std::io::Error::other("closed by a fault")),
            ];
            (
                [(header::CONTENT_TYPE, "application/json")],
                Body::from_stream(futures::stream::iter(chunks)),
            )
                .into_response()
        }
        Some(SourceFault::Repeated) => answer(page - 1, false).into_response(),
        Some(SourceFault::Shrunk) => {
            let mut items = served.model.page(page, false);
            items.truncate(items.len() / 2);
            Json(json!({"items": items})).into_response()
        }
        Some(SourceFault::Stale) => answer(page, true).into_response(),
    }
}

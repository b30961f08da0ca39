//! The trial's source: pages of a book that goes on changing, and misdeeds.

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

use super::{Misdeed, book::Book};
use crate::own_source::address_for_nodes;

#[derive(Default)]
struct Armed {
    misdeed: Option<Misdeed>,
    left: usize,
    done: usize,
}

#[derive(Clone)]
struct Served {
    book: Arc<Book>,
    armed: Arc<Mutex<Armed>>,
}

/// The trial's source.
pub struct Server {
    address: SocketAddr,
    served: Served,
    task: JoinHandle<()>,
}

impl Server {
    /// Serves `book`.
    pub async fn start(client: &Client, book: Arc<Book>) -> Result<Self> {
        let listener = TcpListener::bind((address_for_nodes(client).await?, 0)).await?;
        let address = listener.local_addr()?;
        let served = Served {
            book,
            armed: Arc::default(),
        };
        let router = Router::new().route("/items", get(items)).with_state(served.clone());
        let task = tokio::spawn(async move {
            // Ends with the trial.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, served, task })
    }

    /// Where pods find it.
    pub fn url(&self) -> String {
        format!("http://{}/items", self.address)
    }

    /// Does something wrong so many times.
    pub fn arm(&self, misdeed: Misdeed, times: usize) {
        let armed = Armed {
            misdeed: Some(misdeed),
            left: times,
            done: 0,
        };
        *self.served.armed.lock().unwrap_or_else(PoisonError::into_inner) = armed;
    }

    /// How often it did that, and how often it still will.
    pub fn done(&self) -> (usize, usize) {
        let armed = self.served.armed.lock().unwrap_or_else(PoisonError::into_inner);
        (armed.done, armed.left)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Served {
    /// What to do wrong at this request, if anything. The page before the first, and half of nothing, are nothing wrong.
    fn misdeed(&self, page: usize, empty: bool) -> Option<Misdeed> {
        let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        let misdeed = armed.misdeed.filter(|misdeed| {
            armed.left > 0
                && !(*misdeed == Misdeed::Repeated && page < 2)
                && !(empty && matches!(misdeed, Misdeed::Shrunk | Misdeed::Stale | Misdeed::Repeated))
        })?;
        armed.left -= 1;
        armed.done += 1;
        Some(misdeed)
    }
}

async fn items(State(served): State<Served>, Query(query): Query<HashMap<String, String>>) -> Response {
    let page = query.get("page").and_then(|text| text.parse().ok()).unwrap_or(1);
    let misdeed = served.misdeed(page, Book::is_behind(page));
    let answer = |page, stale| Json(json!({"items": served.book.page(page, stale)}));
    match misdeed {
        None => answer(page, false).into_response(),
        Some(Misdeed::ServerError) => (StatusCode::INTERNAL_SERVER_ERROR, "oops").into_response(),
        Some(Misdeed::TooManyRequests) => (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "1")]).into_response(),
        Some(Misdeed::Garbage) => ([(header::CONTENT_TYPE, "application/json")], "<html>{\"items\": [").into_response(),
        Some(Misdeed::HalfBody) => {
            // Nothing of it arrives, so nothing of it is served.
            let chunks = [
                Ok(Bytes::from_static(b"{\"items\": [{\"device\": \"half\", ")),
                Err(std::io::Error::other("broken off")),
            ];
            (
                [(header::CONTENT_TYPE, "application/json")],
                Body::from_stream(futures::stream::iter(chunks)),
            )
                .into_response()
        }
        Some(Misdeed::Repeated) => answer(page - 1, false).into_response(),
        Some(Misdeed::Shrunk) => {
            let mut items = served.book.page(page, false);
            items.truncate(items.len() / 2);
            Json(json!({"items": items})).into_response()
        }
        Some(Misdeed::Stale) => answer(page, true).into_response(),
    }
}

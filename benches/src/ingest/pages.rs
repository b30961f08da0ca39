//! A server of pages that exist already: the time to make them up is not part of what is measured.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use axum::{
    Router,
    extract::{Query, State},
    http::header::CONTENT_TYPE,
    response::IntoResponse,
    routing::get,
};
use bytes::Bytes;
use randomuser_source::{Config, serve};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The users of the pages are the same in each run of the bench.
const SEED: &str = "bench-ingest";

#[derive(Clone)]
struct Pages {
    bodies: Arc<Vec<Bytes>>,
    next: Arc<AtomicUsize>,
}

#[derive(Deserialize)]
struct Parameters {
    /// From 1 on. Without it, each request gets another page.
    page: Option<usize>,
}

/// Serves pages of the stand-in source at `/api/`, on this machine.
pub async fn start(pages: usize, page_size: usize) -> Result<SocketAddr> {
    let pages = Pages {
        bodies: Arc::new(make(pages, page_size).await?),
        next: Arc::default(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let router = Router::new().route("/api/", get(page)).with_state(pages);
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(address)
}

async fn page(State(pages): State<Pages>, Query(parameters): Query<Parameters>) -> impl IntoResponse {
    let number = parameters.page.map(|page| page.saturating_sub(1));
    let number = number.unwrap_or_else(|| pages.next.fetch_add(1, Ordering::Relaxed));
    let body = pages.bodies[number % pages.bodies.len()].clone();
    ([(CONTENT_TYPE, "application/json")], body)
}

async fn make(pages: usize, page_size: usize) -> Result<Vec<Bytes>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let config = Config {
        limit_users: 0,
        limit_window: Duration::from_secs(60),
        hang_cap: Duration::from_secs(60),
        max_in_flight: 16,
    };
    let stop = CancellationToken::new();
    tokio::spawn(serve(listener, None, config, stop.clone()));
    let mut bodies = Vec::with_capacity(pages);
    for page in 1..=pages {
        let url = format!("http://{address}/api/?results={page_size}&page={page}&seed={SEED}");
        bodies.push(reqwest::get(url).await?.error_for_status()?.bytes().await?);
    }
    stop.cancel();
    Ok(bodies)
}

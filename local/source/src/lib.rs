//! A stand-in for randomuser.me 1.4, with faults on request and a log of the served pages.
//!
//! Tests use the admin API under `/admin`, which the README of this crate describes.

mod admin;
mod api;
mod directory;
mod fault;
mod fault_response;
mod format;
mod generate;
mod nations;
mod page;
mod query;
mod random;
mod rate_limit;
mod request_log;
mod state;
mod user;

use std::{io, net::SocketAddr};

use axum::{Router, http::StatusCode, routing::get};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use state::Config;

/// Answers requests until `stop` is cancelled, then completes the running ones. Hanging requests end at once.
pub async fn serve(listener: TcpListener, config: Config, stop: CancellationToken) -> io::Result<()> {
    let app = Router::new()
        .route("/api", get(api::get))
        .route("/api/", get(api::get))
        .route("/api/1.4", get(api::get))
        .route("/api/1.4/", get(api::get))
        .route("/directory", get(directory::get))
        .route("/healthz", get(|| async { "ok" }))
        .nest("/admin", admin::routes())
        .fallback(|| async { (StatusCode::NOT_FOUND, "Not Found") })
        .with_state(state::State::new(&config, stop.clone()));
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, app).with_graceful_shutdown(stop.cancelled_owned()).await
}

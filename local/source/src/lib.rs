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
mod tls;
mod user;

use std::{future::IntoFuture, io, net::SocketAddr};

use axum::{Router, http::StatusCode, routing::get, serve::ListenerExt};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use state::Config;
pub use tls::TlsListener;

/// Answers requests until `stop` is cancelled, then completes the running ones. Hanging requests end at once.
///
/// Both listeners share faults, limits and the request log.
pub async fn serve(http: TcpListener, https: Option<TlsListener>, config: Config, stop: CancellationToken) -> io::Result<()> {
    let app = router(&config, &stop).into_make_service_with_connect_info::<SocketAddr>();
    let plain = axum::serve(http, app.clone()).with_graceful_shutdown(stop.clone().cancelled_owned());
    let Some(https) = https else {
        return plain.await;
    };
    // axum reads the client's address from its own types of listener only, and `TapIo` is one.
    let encrypted = axum::serve(https.tap_io(|_| {}), app).with_graceful_shutdown(stop.cancelled_owned());
    tokio::try_join!(plain.into_future(), encrypted.into_future()).map(drop)
}

fn router(config: &Config, stop: &CancellationToken) -> Router {
    Router::new()
        .route("/api", get(api::get))
        .route("/api/", get(api::get))
        .route("/api/1.4", get(api::get))
        .route("/api/1.4/", get(api::get))
        .route("/directory", get(directory::get))
        .route("/healthz", get(|| async { "ok" }))
        .nest("/admin", admin::routes())
        .fallback(|| async { (StatusCode::NOT_FOUND, "Not Found") })
        .with_state(state::State::new(config, stop.clone()))
}

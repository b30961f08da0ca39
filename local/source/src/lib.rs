//! A stand-in for randomuser.me 1.4, with faults on request and a memory of what it has served.
//!
//! What a test needs beyond the API itself is under `/admin`; see the README beside this crate.

mod admin;
mod api;
mod book;
mod dice;
mod directory;
mod fault;
mod format;
mod limit;
mod misbehave;
mod names;
mod page;
mod query;
mod state;
mod user;
mod users;

use std::{io, net::SocketAddr};

use axum::{Router, http::StatusCode, routing::get};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use state::Config;

/// Answers requests until `stop` is cancelled, and then those that are under way; hanging ones end.
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

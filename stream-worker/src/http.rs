//! `/livez`, `/readyz`, `/status` and `/metrics`.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use axum::{Json, Router, extract::State, http::StatusCode, routing::get};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use userpipeline_api::report::WorkerReport;

use crate::shared::Shared;

/// Listens and answers until `stop`. The address is taken before this returns: a worker listens from its first moment.
pub async fn listen(address: SocketAddr, shared: Arc<Shared>, stop: CancellationToken) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    tokio::spawn(async move {
        if let Err(e) = axum::serve(listener, router(shared))
            .with_graceful_shutdown(stop.cancelled_owned())
            .await
        {
            tracing::error!(error = %e, "no longer listening");
        }
    });
    Ok(())
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/status", get(status))
        .route("/metrics", get(metrics))
        .with_state(shared)
}

/// Alive is what a restart cannot mend better: it does not depend on any store.
async fn livez(State(shared): State<Arc<Shared>>) -> (StatusCode, &'static str) {
    if shared.heartbeat.is_alive() {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::INTERNAL_SERVER_ERROR, "the thread that polls Kafka hangs\n")
    }
}

async fn readyz(State(shared): State<Arc<Shared>>) -> (StatusCode, String) {
    let report = shared.status.report(Instant::now());
    if report.ready {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("{}: {}\n", report.reason, report.message))
    }
}

async fn status(State(shared): State<Arc<Shared>>) -> Json<WorkerReport> {
    Json(shared.status.report(Instant::now()))
}

async fn metrics(State(shared): State<Arc<Shared>>) -> ([(&'static str, &'static str); 1], String) {
    (
        [("content-type", "application/openmetrics-text; version=1.0.0; charset=utf-8")],
        shared.metrics.render(&shared.status),
    )
}

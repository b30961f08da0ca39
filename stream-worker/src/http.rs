//! `/livez`, `/readyz`, `/status` and `/metrics`.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use axum::{Json, Router, extract::State, http::StatusCode, routing::get};
use tokio::net::TcpListener;
use userpipeline_api::report::WorkerReport;

use crate::context::WorkerContext;

/// Serves until the process ends, on a thread of its own: what blocks the others must not let a probe fail. The address is bound before
/// this returns, so that a worker answers from the start.
pub fn listen(address: SocketAddr, context: Arc<WorkerContext>) -> std::io::Result<()> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let serve = async move { axum::serve(TcpListener::from_std(listener)?, router(context)).await };
    std::thread::Builder::new().name("http".to_owned()).spawn(move || {
        if let Err(e) = runtime.block_on(serve) {
            tracing::error!(error = %e, "no longer listening");
        }
    })?;
    Ok(())
}

fn router(context: Arc<WorkerContext>) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/status", get(status))
        .route("/metrics", get(metrics))
        .with_state(context)
}

/// Independent of all stores: a restart would not fix them.
async fn livez(State(context): State<Arc<WorkerContext>>) -> (StatusCode, &'static str) {
    if context.heartbeat.is_alive() {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::INTERNAL_SERVER_ERROR, "the thread that polls Kafka hangs\n")
    }
}

async fn readyz(State(context): State<Arc<WorkerContext>>) -> (StatusCode, String) {
    let report = context.status.report(Instant::now());
    if report.ready {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("{}: {}\n", report.reason, report.message))
    }
}

async fn status(State(context): State<Arc<WorkerContext>>) -> Json<WorkerReport> {
    Json(context.status.report(Instant::now()))
}

async fn metrics(State(context): State<Arc<WorkerContext>>) -> ([(&'static str, &'static str); 1], String) {
    context.metrics.certificates(&context.wires);
    (
        [("content-type", "application/openmetrics-text; version=1.0.0; charset=utf-8")],
        context.metrics.render(&context.status),
    )
}

//! `/healthz`, `/readyz` and `/metrics`.

use std::{future::Future, net::SocketAddr, time::Duration};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use kube::{Api, Client, api::ListParams};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use userpipeline_api::UserPipeline;

use crate::metrics::Metrics;

/// Ready, or why not.
pub type Readiness = Result<(), String>;

const LOOK_AGAIN: Duration = Duration::from_secs(2);
const LOOK_AGAIN_WHEN_READY: Duration = Duration::from_secs(30);

/// Looks again and again whether pipelines can be read at all, and says why not.
pub fn probe_crd(client: Client, namespace: Option<String>) -> watch::Receiver<Readiness> {
    let (sender, receiver) = watch::channel(Err("pipelines have not been looked for yet".to_owned()));
    tokio::spawn(async move {
        let api: Api<UserPipeline> = match &namespace {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::all(client),
        };
        while !sender.is_closed() {
            let readiness = read_one(&api).await;
            let wait = if readiness.is_ok() { LOOK_AGAIN_WHEN_READY } else { LOOK_AGAIN };
            sender.send_if_modified(|known| {
                let changed = *known != readiness;
                if changed && let Err(reason) = &readiness {
                    tracing::warn!(reason, "not ready");
                }
                *known = readiness;
                changed
            });
            tokio::time::sleep(wait).await;
        }
    });
    receiver
}

async fn read_one(api: &Api<UserPipeline>) -> Readiness {
    // Metadata only: a pipeline that does not deserialise is no reason to be unready.
    match api.list_metadata(&ListParams::default().limit(1)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => {
            Err("the CustomResourceDefinition userpipelines.userpipeline.dev is not installed: apply crds/, or install the chart with crds.enabled=true".to_owned())
        }
        Err(error) => Err(format!("userpipelines.userpipeline.dev cannot be listed: {error}")),
    }
}

#[derive(Clone)]
struct Shown {
    metrics: Metrics,
    readiness: watch::Receiver<Readiness>,
}

fn router(metrics: Metrics, readiness: watch::Receiver<Readiness>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route(
            "/metrics",
            get(|State(shown): State<Shown>| async move {
                (
                    [("content-type", "application/openmetrics-text; version=1.0.0; charset=utf-8")],
                    shown.metrics.render(),
                )
            }),
        )
        .with_state(Shown { metrics, readiness })
}

async fn readyz(State(shown): State<Shown>) -> (StatusCode, String) {
    match &*shown.readiness.borrow() {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

/// Binds `listen`, so that a taken port is an error at once, and returns the server to be run.
pub async fn serve(
    listen: SocketAddr,
    metrics: Metrics,
    readiness: watch::Receiver<Readiness>,
    shutdown: CancellationToken,
) -> std::io::Result<impl Future<Output = std::io::Result<()>>> {
    let listener = tokio::net::TcpListener::bind(listen).await?;
    let app = router(metrics, readiness);
    Ok(async move { axum::serve(listener, app).with_graceful_shutdown(shutdown.cancelled_owned()).await })
}

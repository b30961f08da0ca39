//! `/healthz`, `/readyz` and `/metrics`.

use std::{fmt::Debug, time::Duration};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use kube::{Api, Client, Resource, api::ListParams, core::NamespaceResourceScope};
use serde::de::DeserializeOwned;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;
use userpipeline_api::{UserPipeline, UserPipelineBackfill, UserPipelineConnection};

use crate::metrics::Metrics;

/// Why the operator is not ready.
pub type Readiness = Result<(), String>;

const PROBE_UNREADY: Duration = Duration::from_secs(2);
const PROBE_READY: Duration = Duration::from_secs(30);

/// Probes repeatedly whether pipelines, connections and back-fills can be listed.
pub fn probe_crds(client: Client, namespace: Option<String>) -> watch::Receiver<Readiness> {
    let (sender, receiver) = watch::channel(Err("the CustomResourceDefinitions have not been probed yet".to_owned()));
    tokio::spawn(async move {
        while !sender.is_closed() {
            let namespace = namespace.as_deref();
            let readiness = async {
                read_one::<UserPipeline>(&client, namespace).await?;
                read_one::<UserPipelineConnection>(&client, namespace).await?;
                read_one::<UserPipelineBackfill>(&client, namespace).await
            };
            let readiness = readiness.await;
            let wait = if readiness.is_ok() { PROBE_READY } else { PROBE_UNREADY };
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

async fn read_one<K>(client: &Client, namespace: Option<&str>) -> Readiness
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let api: Api<K> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let name = format!("{}.{}", K::plural(&()), K::group(&()));
    // Metadata only: a resource that does not deserialise does not make the operator unready.
    match api.list_metadata(&ListParams::default().limit(1)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Err(format!(
            "the CustomResourceDefinition {name} is not installed: apply crds/, or install the chart with crds.enabled=true"
        )),
        Err(error) => Err(format!("cannot list {name}: {error}")),
    }
}

#[derive(Clone)]
struct Served {
    metrics: Metrics,
    readiness: [watch::Receiver<Readiness>; 2],
}

fn router(metrics: Metrics, readiness: [watch::Receiver<Readiness>; 2]) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route(
            "/metrics",
            get(|State(served): State<Served>| async move {
                (
                    [("content-type", "application/openmetrics-text; version=1.0.0; charset=utf-8")],
                    served.metrics.render(),
                )
            }),
        )
        .with_state(Served { metrics, readiness })
}

async fn readyz(State(served): State<Served>) -> (StatusCode, String) {
    let unready = served.readiness.iter().find_map(|readiness| readiness.borrow().clone().err());
    match unready {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

/// Serves until `shutdown` is cancelled. The operator is ready while each of `readiness` is.
pub async fn serve(
    listener: TcpListener,
    metrics: Metrics,
    readiness: [watch::Receiver<Readiness>; 2],
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    axum::serve(listener, router(metrics, readiness))
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn listen() -> (TcpListener, String) {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        (listener, address)
    }

    async fn get(address: &str) -> (u16, String) {
        let answer = reqwest::get(address).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    #[tokio::test]
    async fn given_no_crd_then_the_operator_is_alive_but_not_ready_and_names_the_missing_one() {
        let (apiserver, address) = listen().await;
        let missing =
            r#"{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404,"message":"404 page not found"}"#;
        let app = Router::new().fallback(move || async move { (StatusCode::NOT_FOUND, missing) });
        tokio::spawn(async move { axum::serve(apiserver, app).await });
        let client = Client::try_from(kube::Config::new(address.parse().unwrap())).unwrap();
        let mut readiness = probe_crds(client, None);
        readiness.changed().await.unwrap();

        let (listener, address) = listen().await;
        let (_leadership, other) = watch::channel(Ok(()));
        tokio::spawn(serve(listener, Metrics::new(), [other, readiness], CancellationToken::new()));
        assert_eq!(get(&format!("{address}/healthz")).await.0, 200);
        let (status, text) = get(&format!("{address}/readyz")).await;
        assert_eq!(status, 503);
        assert!(text.contains("userpipelines.userpipeline.dev"), "{text}");
        assert!(get(&format!("{address}/metrics")).await.1.contains("leader_election_master_status"));
    }

    #[tokio::test]
    async fn given_told_to_stop_then_the_server_ends() {
        let (listener, _) = listen().await;
        let (_sender, readiness) = watch::channel(Ok(()));
        let shutdown = CancellationToken::new();
        let server = tokio::spawn(serve(listener, Metrics::new(), [readiness.clone(), readiness], shutdown.clone()));
        shutdown.cancel();
        server.await.unwrap().unwrap();
    }
}

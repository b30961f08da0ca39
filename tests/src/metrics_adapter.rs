//! Replaces Prometheus and its adapter: serves the operator's metrics as external metrics for autoscalers.
//!
//! This process serves an aggregated API (`external.metrics.k8s.io/v1beta1`) and reads the operator's `/metrics` for each request.
//! There is one for the whole cluster.

use std::{collections::BTreeMap, net::SocketAddr};

use anyhow::{Context, Result};
use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::StatusCode,
    routing::get,
    serve::Listener as _,
};
use k8s_openapi::{
    api::core::v1::{Pod, Service},
    kube_aggregator::pkg::apis::apiregistration::v1::APIService,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::{
    cluster::OPERATOR_NAMESPACE,
    test_source::address_for_nodes,
    tls::{Authority, TlsListener},
};

const NAME: &str = "metrics-adapter";
const API_SERVICE: &str = "v1beta1.external.metrics.k8s.io";
const GROUP_VERSION: &str = "external.metrics.k8s.io/v1beta1";

pub struct MetricsAdapter {
    client: Client,
    server: JoinHandle<()>,
}

impl MetricsAdapter {
    /// Serves, and registers with the API server.
    pub async fn start(client: Client) -> Result<Self> {
        // The APIService sets insecureSkipTLSVerify.
        let identity = Authority::new()?.identity(NAME)?;
        let listener = TlsListener::bind(address_for_nodes(&client).await?, &identity, None).await?;
        let address = listener.local_addr()?;
        let router = Router::new()
            .route(&format!("/apis/{GROUP_VERSION}"), get(discover))
            .route(&format!("/apis/{GROUP_VERSION}/namespaces/{{namespace}}/{{metric}}"), get(values))
            .with_state(client.clone());
        let server = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        register(&client, address).await?;
        Ok(Self { client, server })
    }

    /// Deregisters and stops serving.
    pub async fn stop(self) -> Result<()> {
        let delete = DeleteParams::default();
        Api::<APIService>::all(self.client.clone()).delete(API_SERVICE, &delete).await?;
        Api::<Service>::namespaced(self.client.clone(), OPERATOR_NAMESPACE)
            .delete(NAME, &delete)
            .await?;
        self.server.abort();
        Ok(())
    }
}

async fn register(client: &Client, address: SocketAddr) -> Result<()> {
    let apply = PatchParams::apply("end-to-end").force();
    // An external name: endpoints would have to reach every node before the first request of the API server.
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": NAME},
        "spec": {"type": "ExternalName", "externalName": address.ip()}
    });
    Api::<Service>::namespaced(client.clone(), OPERATOR_NAMESPACE)
        .patch(NAME, &apply, &Patch::Apply(service))
        .await?;
    let (group, version) = GROUP_VERSION.split_once('/').context("a version")?;
    let api_service = json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": API_SERVICE},
        "spec": {
            "group": group, "version": version, "groupPriorityMinimum": 100, "versionPriority": 100,
            "insecureSkipTLSVerify": true, "service": {"namespace": OPERATOR_NAMESPACE, "name": NAME, "port": address.port()}
        }
    });
    Api::<APIService>::all(client.clone())
        .patch(API_SERVICE, &apply, &Patch::Apply(api_service))
        .await?;
    Ok(())
}

async fn discover() -> Json<Value> {
    Json(json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": GROUP_VERSION, "resources": []}))
}

#[derive(Deserialize)]
struct Selection {
    #[serde(rename = "labelSelector", default)]
    labels: String,
}

async fn values(
    State(client): State<Client>,
    Path((_, metric)): Path<(String, String)>,
    Query(selection): Query<Selection>,
) -> Result<Json<Value>, (StatusCode, String)> {
    let text = scrape(&client).await.map_err(|e| (StatusCode::BAD_GATEWAY, format!("{e:#}")))?;
    let expected = selection.labels.split(',').filter_map(|pair| pair.split_once('='));
    let expected: BTreeMap<&str, &str> = expected.collect();
    let series = text.lines().filter_map(series).filter(|(name, labels, _)| {
        *name == metric
            && expected
                .iter()
                .all(|(key, value)| labels.get(key).is_some_and(|found| found == value))
    });
    let items: Vec<Value> = series
        .map(|(name, labels, value)| {
            json!({"metricName": name, "metricLabels": labels, "timestamp": jiff::Timestamp::now().to_string(), "value": value})
        })
        .collect();
    Ok(Json(
        json!({"kind": "ExternalMetricValueList", "apiVersion": GROUP_VERSION, "metadata": {}, "items": items}),
    ))
}

/// The metrics of all replicas of the operator; the leader has those of pipelines.
async fn scrape(client: &Client) -> Result<String> {
    let ours = ListParams::default().labels("app.kubernetes.io/name=userpipeline-operator");
    let pods = Api::<Pod>::namespaced(client.clone(), OPERATOR_NAMESPACE).list(&ours).await?;
    let mut text = String::new();
    for pod in pods {
        let path = format!("/api/v1/namespaces/{OPERATOR_NAMESPACE}/pods/{}:8080/proxy/metrics", pod.name_any());
        text += &client.request_text(http::Request::get(path).body(Vec::new())?).await?;
    }
    Ok(text)
}

/// Parses a line in the text format of Prometheus. The operator's labels hold neither commas nor quotes.
fn series(line: &str) -> Option<(&str, BTreeMap<&str, &str>, &str)> {
    let (name, rest) = line.split_once('{')?;
    let (labels, value) = rest.split_once("} ")?;
    let pairs = labels.split(',').filter_map(|pair| pair.split_once('='));
    Some((name, pairs.map(|(key, value)| (key, value.trim_matches('"'))).collect(), value))
}

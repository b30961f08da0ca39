//! The status that each worker serves at `/status`.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use userpipeline_api::{
    names::PipelineId,
    report::{WORKER_PORT, WorkerReport},
};

use super::pods;

const TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes.
const LARGEST_RESPONSE: usize = 512 * 1024;
const CONCURRENT_REQUESTS: usize = 16;

/// An HTTP client that follows no redirect and uses no proxy.
pub struct WorkerClient {
    http: reqwest::Client,
    /// Pipelines with a partition without a worker that reports its progress. Not persisted: after a restart of the operator, the
    /// time starts again.
    unknown: Mutex<HashMap<PipelineId, Timestamp>>,
}

impl WorkerClient {
    pub fn new() -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        Ok(Self {
            http: client,
            unknown: Mutex::default(),
        })
    }

    /// Since when the progress of a pipeline has been unknown.
    pub fn unknown_since(&self, id: &PipelineId, is_unknown: bool, now: Timestamp) -> Option<Timestamp> {
        let mut unknown = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        if is_unknown {
            return Some(*unknown.entry(id.clone()).or_insert(now));
        }
        unknown.remove(id);
        None
    }

    /// Forgets a pipeline that is gone.
    pub fn forget(&self, id: &PipelineId) {
        self.unknown.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// The reports of these pods, by name. A worker that does not answer in time and form has none.
    pub async fn reports(&self, workers: impl Iterator<Item = &Pod>) -> BTreeMap<String, WorkerReport> {
        let requests: Vec<(String, String)> = workers
            .filter_map(|pod| Some((pod.name_any(), pods::address(pod)?.to_owned())))
            .collect();
        stream::iter(requests)
            .map(|(name, address)| async move { Some((name, self.report(&address, WORKER_PORT).await?)) })
            .buffer_unordered(CONCURRENT_REQUESTS)
            .filter_map(std::future::ready)
            .collect()
            .await
    }

    async fn report(&self, address: &str, port: u16) -> Option<WorkerReport> {
        let host = match address.parse().ok()? {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        };
        let request = self.http.get(format!("http://{host}:{port}/status"));
        let mut response = request.send().await.ok()?.error_for_status().ok()?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.ok()? {
            if body.len() + chunk.len() > LARGEST_RESPONSE {
                return None;
            }
            body.extend_from_slice(&chunk);
        }
        serde_json::from_slice(&body).ok()
    }
}

#[cfg(test)]
mod tests {
    use axum::{Router, response::Redirect, routing::get};

    use super::*;

    async fn report_of(app: Router) -> Option<WorkerReport> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move { axum::serve(listener, app).await });
        WorkerClient::new().unwrap().report("127.0.0.1", port).await
    }

    #[tokio::test]
    async fn the_report_of_a_worker_is_read() {
        let app = Router::new().route(
            "/status",
            get(|| async { r#"{"ready":true,"topicPartitions":3,"news":"unknown fields are fine"}"# }),
        );
        let report = report_of(app).await.unwrap();
        assert_eq!((report.ready, report.topic_partitions), (true, 3));
    }

    #[tokio::test]
    async fn an_unusable_response_counts_as_no_report() {
        let table = [
            Router::new(),
            Router::new().route("/status", get(|| async { "no JSON" })),
            Router::new().route("/status", get(|| async { " ".repeat(LARGEST_RESPONSE) + r#"{"ready":true}"# })),
            Router::new()
                .route("/status", get(|| async { Redirect::temporary("/elsewhere") }))
                .route("/elsewhere", get(|| async { r#"{"ready":true}"# })),
            Router::new().route("/status", get(|| async { tokio::time::sleep(TIMEOUT * 2).await })),
        ];
        for app in table {
            assert_eq!(report_of(app).await, None);
        }
    }
}

//! The pods of a test's pipeline.

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    ResourceExt,
    api::{AttachParams, DeleteParams, ListParams},
};
use tokio::io::AsyncReadExt;

use crate::world::World;

impl World {
    /// `component`: `ingest`, `worker` or `schema`.
    pub async fn pods(&self, component: &str) -> Result<Vec<Pod>> {
        let selector = ListParams::default().labels(&format!("userpipeline.dev/pipeline=users,app.kubernetes.io/component={component}"));
        Ok(self.api::<Pod>().list(&selector).await?.items)
    }

    /// A metric of a worker, summed over the series that contain `label`.
    pub async fn metric(&self, pod: &Pod, name: &str, label: &str) -> Result<f64> {
        let path = format!("/api/v1/namespaces/{}/pods/{}:8080/proxy/metrics", self.namespace, pod.name_any());
        let text = self.client.request_text(http::Request::get(path).body(Vec::new())?).await?;
        let series = text
            .lines()
            .filter(|line| line.starts_with(&format!("userpipeline_worker_{name}")) && line.contains(label));
        Ok(series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }

    /// Runs a command as `kubectl exec` does. Returns whether it succeeded, and its output.
    pub async fn exec(&self, pod: &str, command: &[&str]) -> Result<(bool, String)> {
        let mut process = self.api::<Pod>().exec(pod, command.to_vec(), &AttachParams::default()).await?;
        let (mut printed, mut errors) = (String::new(), String::new());
        if let Some(mut stdout) = process.stdout() {
            stdout.read_to_string(&mut printed).await?;
        }
        if let Some(mut stderr) = process.stderr() {
            stderr.read_to_string(&mut errors).await?;
        }
        let status = process.take_status().context("how the command ended")?.await.unwrap_or_default();
        let done = status.status.as_deref() == Some("Success");
        Ok((done, printed + &errors))
    }

    /// Deletes a pod without a grace period, as when its node is lost.
    pub async fn kill(&self, pod: &str) -> Result<()> {
        self.api::<Pod>().delete(pod, &DeleteParams::default().grace_period(0)).await?;
        Ok(())
    }
}

//! Ends Jobs that an injected container keeps running.

use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{
    applier::{Applier, apply_failed},
    error::ApplyError,
};
use crate::pipeline::{model::labels, observe::ContainerEnd};

impl Applier<'_> {
    /// Writes the result to each Job, and lets its deadline pass, so that Kubernetes ends its pod and starts no other. Returns
    /// those that cannot be ended, which do not block the others.
    pub async fn end_jobs(&self, held: &[(Arc<Job>, ContainerEnd)]) -> Vec<(Arc<Job>, ApplyError)> {
        let mut not_ended = Vec::new();
        for (job, end) in held {
            if let Err(error) = self.end_job(job, end).await {
                not_ended.push((job.clone(), error));
            }
        }
        not_ended
    }

    async fn end_job(&self, job: &Job, end: &ContainerEnd) -> Result<(), ApplyError> {
        let name = job.name_any();
        let failed = |source| apply_failed::<Job>(&name, source);
        let text = serde_json::to_string(end).map_err(|error| failed(kube::Error::SerdeError(error)))?;
        let change = json!({
            // A Job that has ended by itself meanwhile has its own result.
            "metadata": {"uid": job.uid(), "resourceVersion": job.resource_version(), "annotations": {labels::CONTAINER_END: text}},
            "spec": {"activeDeadlineSeconds": 1},
        });
        let patch = Patch::Merge(&change);
        match self.api::<Job>().patch(&name, &PatchParams::default(), &patch).await {
            Ok(_) => {
                self.wrote::<Job>(&name, "patch", "ended: only an injected container was running");
                Ok(())
            }
            // The event of the change brings the next reconcile.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(source) => Err(failed(source)),
        }
    }
}

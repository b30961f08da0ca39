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
    /// Writes the result to each Job, and lets its deadline pass, so that Kubernetes ends its pod and starts no other.
    pub async fn end_jobs(&self, held: &[(Arc<Job>, ContainerEnd)]) -> Result<(), ApplyError> {
        for (job, end) in held {
            let name = job.name_any();
            let failed = |source| apply_failed::<Job>(&name, source);
            let text = serde_json::to_string(end).map_err(|error| failed(kube::Error::SerdeError(error)))?;
            let change = json!({
                // A Job that has ended by itself meanwhile has its own result.
                "metadata": {"uid": job.uid(), "resourceVersion": job.resource_version(), "annotations": {labels::CONTAINER_END: text}},
                "spec": {"activeDeadlineSeconds": 1},
            });
            match self
                .api::<Job>()
                .patch(&name, &PatchParams::default(), &Patch::Merge(&change))
                .await
            {
                Ok(_) => self.wrote::<Job>(&name, "patch", "ended: only an injected container was running"),
                // The event of the change brings the next reconcile.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                Err(source) => return Err(failed(source)),
            }
        }
        Ok(())
    }
}

//! What is applied and deleted for a pipeline that is being deleted.

use kube::{
    Api,
    api::{Patch, PatchParams, PropagationPolicy},
};
use serde_json::json;
use userpipeline_api::{GROUP, UserPipeline};

use super::{ApplyError, Kind, Target};
use crate::pipeline::{
    Kept,
    build::{DeletionObjects, labels},
    dereference::Observed,
};

/// Finalizers are applied under a name of their own, so that the status' owner need not repeat them.
const FINALIZER_MANAGER: &str = "userpipeline-operator-finalizer";

/// Whether nothing can be made because the namespace is going.
pub fn is_namespace_terminating(error: &ApplyError) -> bool {
    let ApplyError::ApplyFailed { source, .. } = error else {
        return false;
    };
    let kube::Error::Api(status) = source.as_ref() else { return false };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
}

impl Target<'_> {
    /// Puts the finalizer on the pipeline, or takes it off.
    pub async fn set_finalizer(&self, finalizer: &str, held: bool) -> Result<(), ApplyError> {
        let id = &self.parent.id;
        let finalizers = if held { vec![finalizer] } else { vec![] };
        let body = json!({
            "apiVersion": format!("{GROUP}/v1alpha1"),
            "kind": "UserPipeline",
            // With its uid: another one of the same name is not meant, and none must be made.
            "metadata": {"name": id.name, "uid": self.parent.uid, "finalizers": finalizers},
        });
        let api: Api<Kept<UserPipeline>> = Api::namespaced(self.client.clone(), &id.namespace);
        let params = PatchParams::apply(FINALIZER_MANAGER).force();
        match api.patch(&id.name, &params, &Patch::Apply(&body)).await {
            Ok(_) => {
                self.metrics.wrote("UserPipeline", "patch");
                tracing::info!(pipeline = %id, held, "finalizer");
                Ok(())
            }
            // Not 409: that may pass, and whoever took it for gone would wait for ever.
            Err(kube::Error::Api(status)) if !held && status.code == 404 => Ok(()),
            Err(source) => Err(ApplyError::ApplyFailed {
                kind: "UserPipeline".to_owned(),
                name: id.name.clone(),
                source: Box::new(source),
            }),
        }
    }

    /// Deletes everything that could still write; each stays to be seen until its pods are gone.
    pub async fn stop_all(&self, observed: &Observed) -> Result<(), ApplyError> {
        for cron_job in &observed.cron_jobs {
            self.stop(cron_job.as_ref()).await?;
        }
        for deployment in &observed.deployments {
            self.stop(deployment.as_ref()).await?;
        }
        for job in observed.jobs.iter().filter(|job| !Observed::is_deletion_job(job)) {
            self.stop(job.as_ref()).await?;
        }
        Ok(())
    }

    async fn stop<K: Kind>(&self, seen: &K) -> Result<(), ApplyError> {
        if seen.meta().deletion_timestamp.is_some() {
            return Ok(());
        }
        self.delete(seen, PropagationPolicy::Foreground).await
    }

    /// Applies the deletion Job with what it needs.
    pub async fn delete_data(&self, wanted: DeletionObjects, observed: &Observed) -> Result<(), ApplyError> {
        self.apply(&observed.accounts, wanted.account).await?;
        self.apply(&observed.config_maps, wanted.config).await?;
        self.apply(&observed.jobs, wanted.job).await.map(drop)
    }

    /// Deletes what a deletion Job has needed: nothing else would, for it has no owner.
    pub async fn clear_deletion(&self, observed: &Observed) -> Result<(), ApplyError> {
        for job in observed.jobs.iter().filter(|job| Observed::is_deletion_job(job)) {
            self.clear(job.as_ref()).await?;
        }
        for config in &observed.config_maps {
            self.clear(config.as_ref()).await?;
        }
        for account in &observed.accounts {
            self.clear(account.as_ref()).await?;
        }
        Ok(())
    }

    async fn clear<K: Kind>(&self, seen: &K) -> Result<(), ApplyError> {
        if seen.meta().deletion_timestamp.is_some() || !seen.meta().labels.iter().flatten().any(|(key, _)| key == labels::PIPELINE_UID) {
            return Ok(());
        }
        self.delete(seen, PropagationPolicy::Background).await
    }
}

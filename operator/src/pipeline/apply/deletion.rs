//! Writes for a pipeline that is being deleted.

use kube::api::PropagationPolicy;

use super::{applier::Applier, error::ApplyError};
use crate::pipeline::{
    children::{ChildKind, Children, DesiredChildren, VisitChildren},
    model::labels,
    observe::is_deletion_job,
};

impl Applier<'_> {
    /// Deletes every child that can still write. Each stays observable until its pods are gone.
    pub async fn stop_writers(&self, observed: &Children) -> Result<(), ApplyError> {
        for cron_job in &observed.cron_jobs {
            self.stop(cron_job.as_ref()).await?;
        }
        for deployment in &observed.deployments {
            self.stop(deployment.as_ref()).await?;
        }
        for job in observed.jobs.iter().filter(|job| !is_deletion_job(job)) {
            self.stop(job.as_ref()).await?;
        }
        Ok(())
    }

    async fn stop<K: ChildKind>(&self, observed: &K) -> Result<(), ApplyError> {
        if observed.meta().deletion_timestamp.is_some() {
            return Ok(());
        }
        self.delete_one(observed, PropagationPolicy::Foreground).await
    }

    /// Applies the deletion Job and what it needs.
    pub async fn apply_deletion(&self, desired: DesiredChildren, observed: &Children) -> Result<(), ApplyError> {
        desired.apply_all(observed, self).await.map(drop)
    }

    /// Deletes the deletion Job and what it needed: without an owner, they are not garbage-collected.
    pub async fn clear_deletion(&self, observed: &Children) -> Result<(), ApplyError> {
        for job in observed.jobs.iter().filter(|job| is_deletion_job(job)) {
            self.clear(job.as_ref()).await?;
        }
        for config_map in &observed.config_maps {
            self.clear(config_map.as_ref()).await?;
        }
        for account in &observed.accounts {
            self.clear(account.as_ref()).await?;
        }
        Ok(())
    }

    async fn clear<K: ChildKind>(&self, observed: &K) -> Result<(), ApplyError> {
        let is_ownerless = observed.meta().labels.iter().flatten().any(|(key, _)| key == labels::PIPELINE_UID);
        if observed.meta().deletion_timestamp.is_some() || !is_ownerless {
            return Ok(());
        }
        self.delete(observed).await
    }
}

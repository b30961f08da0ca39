//! Writes for a pipeline that is being deleted.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{ResourceExt, api::PropagationPolicy};

use super::{applier::Applier, error::ApplyError};
use crate::pipeline::{
    children::{ChildKind, Children, DesiredChildren, VisitChildren},
    model::labels,
    observe::{is_deletion_job, is_of_component},
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
        let observed = self.delete_deletion_configs(observed, |_| true).await?;
        desired.apply_all(&observed, self).await.map(drop)
    }

    /// Deletes the configs of deletion Jobs that `keep` refuses or that belong to an earlier pipeline of the same name, which would
    /// block those of this one. Returns the children without them.
    pub(super) async fn delete_deletion_configs(
        &self,
        observed: &Children,
        keep: impl Fn(&ConfigMap) -> bool,
    ) -> Result<Children, ApplyError> {
        let is_kept = |config_map: &ConfigMap| config_map.labels().get(labels::PIPELINE_UID).is_some_and(|uid| uid == self.uid);
        let (others, kept) = observed.config_maps.iter().cloned().partition(|config_map| {
            is_of_component(config_map.as_ref(), labels::Component::Deletion) && !(is_kept(config_map) && keep(config_map))
        });
        let others: Vec<Arc<ConfigMap>> = others;
        for other in &others {
            self.delete(other.as_ref()).await?;
        }
        Ok(Children {
            config_maps: kept,
            ..observed.clone()
        })
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

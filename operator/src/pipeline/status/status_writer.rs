//! Writes the status once at the end of a reconcile, where it changed, and publishes the Events of the change.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{Client, Resource, ResourceExt, api::ObjectMeta, runtime::reflector::ObjectRef};
use serde_json::Value;
use userpipeline_api::{UserPipeline, UserPipelineStatus, names::PipelineId};

use super::{event::events, event_publisher::EventPublisher, event_reason::Reason, status_cache::StatusCache};
use crate::{
    metrics::Metrics,
    pipeline::cache::{Cache, CachedPipeline},
    replace_status::replace_status,
};

#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("{0}")]
    StatusFailed(Box<kube::Error>),
    #[error("{0}")]
    StatusUnwritable(#[from] serde_json::Error),
}

pub struct StatusWriter {
    client: Client,
    metrics: Metrics,
    pipelines: Cache<UserPipeline>,
    cache: StatusCache,
    events: EventPublisher,
}

impl StatusWriter {
    /// `instance` is the name of the operator's pod, for Events.
    pub fn new(client: Client, metrics: Metrics, pipelines: Cache<UserPipeline>, instance: String) -> Self {
        Self {
            events: EventPublisher::new(client.clone(), metrics.clone(), instance),
            cache: StatusCache::default(),
            client,
            metrics,
            pipelines,
        }
    }

    pub const fn cache(&self) -> &StatusCache {
        &self.cache
    }

    /// Writes `status` if it differs from the pipeline's, and publishes Events about the difference.
    pub async fn write(&self, pipeline: &UserPipeline, status: &UserPipelineStatus) -> Result<(), WriteError> {
        let before = pipeline.status.clone().unwrap_or_default();
        if before == *status {
            return Ok(());
        }
        let id = PipelineId::of(pipeline);
        let written = self.patch(&id, pipeline.uid(), serde_json::to_value(status)?).await?;
        if let Some(written) = written {
            self.cache.insert(&written, id.clone(), status);
            // The watch may have been faster than the response.
            let about = ObjectRef::<CachedPipeline>::new(&id.name).within(&id.namespace);
            if let Some(cached) = self.pipelines.store().get(&about) {
                self.cache.observed(cached.as_ref());
            }
        }
        for (reason, note) in events(&before, status) {
            let note = match &pipeline.spec.owner {
                Some(owner) => format!("{note} (owner: {owner})"),
                None => note,
            };
            self.publish(reason, &note, &pipeline.object_ref(&())).await;
        }
        Ok(())
    }

    /// Replaces the status. Returns the new metadata, or `None` where the pipeline is gone.
    pub async fn patch(&self, id: &PipelineId, uid: Option<String>, status: Value) -> Result<Option<ObjectMeta>, WriteError> {
        // The answer need not be readable as a pipeline.
        let written = replace_status::<CachedPipeline>(&self.client, &id.namespace, &id.name, uid.as_deref(), &status).await;
        let written = written.map_err(|error| WriteError::StatusFailed(Box::new(error)))?;
        if written.is_some() {
            self.metrics.wrote("UserPipeline", "patch");
        }
        Ok(written.map(|written| written.meta().clone()))
    }

    pub async fn publish(&self, reason: Reason, note: &str, about: &ObjectReference) {
        tracing::info!(
            reason = reason.as_str(),
            note,
            pipeline = about.name,
            namespace = about.namespace,
            "event"
        );
        self.events.publish(&reason.event(note), about).await;
    }
}

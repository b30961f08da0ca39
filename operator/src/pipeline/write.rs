//! The status, written once at the end of every reconciliation, and only when it has changed; and the Events that go with it.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use userpipeline_api::{GROUP, UserPipeline, UserPipelineStatus, names::PipelineId};

use super::{Context, event};
use crate::MANAGER;

/// Why a status is not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The apiserver has not taken it.
    #[error("{0}")]
    StatusFailed(Box<kube::Error>),
    /// It is no JSON.
    #[error("{0}")]
    StatusUnwritable(#[from] serde_json::Error),
}

/// What was written last: the cache may be behind it.
#[derive(Default)]
pub struct Written(Mutex<HashMap<PipelineId, Remembered>>);

struct Remembered {
    uid: String,
    version: u64,
    status: UserPipelineStatus,
}

impl Written {
    /// The pipeline with the newest status that is known of it.
    pub fn newest(&self, seen: &UserPipeline) -> UserPipeline {
        let mut pipeline = seen.clone();
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let id = PipelineId::of(seen);
        if let Some(last) = written.get(&id) {
            if seen.uid().as_deref() == Some(&last.uid) && version(seen).is_some_and(|version| version < last.version) {
                pipeline.status = Some(last.status.clone());
            } else {
                // The cache has caught up.
                written.remove(&id);
            }
        }
        pipeline
    }

    /// The pipeline is gone.
    pub fn forget(&self, id: &PipelineId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    fn remember(&self, pipeline: &UserPipeline, status: &UserPipelineStatus) {
        let (Some(uid), Some(version)) = (pipeline.uid(), version(pipeline)) else {
            return;
        };
        let remembered = Remembered {
            uid,
            version,
            status: status.clone(),
        };
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(PipelineId::of(pipeline), remembered);
    }
}

/// Resource versions of one object grow, as far as they are numbers.
fn version(pipeline: &UserPipeline) -> Option<u64> {
    pipeline.resource_version()?.parse().ok()
}

/// Writes `status`, if it is another one, and tells what has changed.
pub async fn status(pipeline: &UserPipeline, status: &UserPipelineStatus, context: &Context) -> Result<(), WriteError> {
    let before = pipeline.status.clone().unwrap_or_default();
    if before == *status {
        return Ok(());
    }
    let written = patch(&PipelineId::of(pipeline), pipeline.uid(), serde_json::to_value(status)?, context).await?;
    if let Some(written) = written {
        context.written.remember(&written, status);
    }
    for (reason, note) in event::between(&before, status) {
        let note = match &pipeline.spec.owner {
            Some(owner) => format!("{note} (owner: {owner})"),
            None => note,
        };
        publish(reason, &note, &pipeline.object_ref(&()), context).await;
    }
    Ok(())
}

/// Applies the whole status; `None` when the pipeline is gone.
pub async fn patch(id: &PipelineId, uid: Option<String>, status: Value, context: &Context) -> Result<Option<UserPipeline>, WriteError> {
    let api: Api<super::Guarded> = Api::namespaced(context.client.clone(), &id.namespace);
    let body = json!({
        "apiVersion": format!("{GROUP}/v1alpha1"),
        "kind": "UserPipeline",
        // With its uid: the status of one pipeline must not reach another of the same name.
        "metadata": {"name": id.name, "uid": uid},
        "status": status,
    });
    match api
        .patch_status(&id.name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&body))
        .await
    {
        Ok(written) => {
            context.metrics.wrote("UserPipeline", "patch");
            Ok(written.0.ok())
        }
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(WriteError::StatusFailed(Box::new(error))),
    }
}

/// Tells an Event; that it cannot be told is no reason to fail.
pub async fn publish(reason: event::Reason, note: &str, about: &k8s_openapi::api::core::v1::ObjectReference, context: &Context) {
    tracing::info!(
        reason = reason.as_str(),
        note,
        pipeline = about.name,
        namespace = about.namespace,
        "event"
    );
    match context.recorder.publish(&reason.event(note), about).await {
        Ok(()) => context.metrics.wrote("Event", "create"),
        Err(error) => tracing::warn!(%error, reason = reason.as_str(), "the Event cannot be told"),
    }
}

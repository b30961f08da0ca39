//! The status, written once at the end of every reconciliation, and only when it has changed; and the Events that go with it.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ObjectMeta, Patch, PatchParams},
    runtime::{
        events::{Recorder, Reporter},
        reflector::ObjectRef,
    },
};
use serde_json::{Value, json};
use userpipeline_api::{GROUP, UserPipeline, UserPipelineStatus, names::PipelineId};

use super::{
    Context, event,
    kept::{self, Kept},
};
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
    pub fn newest(&self, mut seen: UserPipeline) -> UserPipeline {
        self.caught_up(&seen);
        let written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = written.get(&PipelineId::of(&seen)) {
            seen.status = Some(last.status.clone());
        }
        seen
    }

    /// What was written need not be remembered once the cache has `seen` it.
    pub fn caught_up(&self, seen: &impl Resource) {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let id = kept::id(seen);
        let behind = |last: &Remembered| {
            seen.uid().as_deref() == Some(&last.uid) && version(seen.meta()).is_some_and(|version| version < last.version)
        };
        if written.get(&id).is_some_and(|last| !behind(last)) {
            written.remove(&id);
        }
    }

    /// The pipeline is gone.
    pub fn forget(&self, id: &PipelineId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    fn remember(&self, written: &ObjectMeta, id: PipelineId, status: &UserPipelineStatus) {
        let (Some(uid), Some(version)) = (written.uid.clone(), version(written)) else {
            return;
        };
        let remembered = Remembered {
            uid,
            version,
            status: status.clone(),
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id, remembered);
    }
}

/// Resource versions of one object grow, as far as they are numbers.
fn version(meta: &ObjectMeta) -> Option<u64> {
    meta.resource_version.as_deref()?.parse().ok()
}

/// Writes `status`, if it is another one, and tells what has changed.
pub async fn status(pipeline: &UserPipeline, status: &UserPipelineStatus, context: &Context) -> Result<(), WriteError> {
    let before = pipeline.status.clone().unwrap_or_default();
    if before == *status {
        return Ok(());
    }
    let id = PipelineId::of(pipeline);
    let written = patch(&id, pipeline.uid(), serde_json::to_value(status)?, context).await?;
    if let Some(written) = written {
        context.written.remember(&written, id.clone(), status);
        // The watch may have been quicker than the answer.
        let about = ObjectRef::<Kept<UserPipeline>>::new(&id.name).within(&id.namespace);
        if let Some(seen) = context.caches.pipelines.get(&about) {
            context.written.caught_up(seen.as_ref());
        }
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

/// Applies the whole status, and returns the metadata that it has then; `None` when the pipeline is gone.
pub async fn patch(id: &PipelineId, uid: Option<String>, status: Value, context: &Context) -> Result<Option<ObjectMeta>, WriteError> {
    let api: Api<Kept<UserPipeline>> = Api::namespaced(context.client.clone(), &id.namespace);
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
            Ok(Some(written.meta().clone()))
        }
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(WriteError::StatusFailed(Box::new(error))),
    }
}

/// After so many Events the recorder is made anew.
const REMEMBERED: u32 = 256;

/// What tells Events. A recorder remembers each for minutes, to count repetitions instead of telling them again; with many
/// pipelines that would be a third of all memory.
pub struct Teller {
    client: Client,
    reporter: Reporter,
    recorder: Mutex<(Recorder, u32)>,
}

impl Teller {
    /// Tells in the name of `reporter`.
    pub fn new(client: Client, reporter: Reporter) -> Self {
        let recorder = Recorder::new(client.clone(), reporter.clone());
        Self {
            client,
            reporter,
            recorder: Mutex::new((recorder, 0)),
        }
    }

    fn recorder(&self) -> Recorder {
        let mut recorder = self.recorder.lock().unwrap_or_else(PoisonError::into_inner);
        if recorder.1 >= REMEMBERED {
            *recorder = (Recorder::new(self.client.clone(), self.reporter.clone()), 0);
        }
        recorder.1 += 1;
        recorder.0.clone()
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
    match context.teller.recorder().publish(&reason.event(note), about).await {
        Ok(()) => context.metrics.wrote("Event", "create"),
        Err(error) => tracing::warn!(%error, reason = reason.as_str(), "the Event cannot be told"),
    }
}

//! The last status that was written: the cache of pipelines may be behind it.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use kube::{Resource, ResourceExt, api::ObjectMeta};
use userpipeline_api::{UserPipeline, UserPipelineStatus, names::PipelineId};

use crate::pipeline::model::pipeline_id;

#[derive(Default)]
pub struct StatusCache(Mutex<HashMap<PipelineId, Written>>);

struct Written {
    uid: String,
    version: u64,
    status: UserPipelineStatus,
}

impl StatusCache {
    /// The pipeline with its newest known status.
    pub fn newest(&self, mut pipeline: UserPipeline) -> UserPipeline {
        self.observed(&pipeline);
        let written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = written.get(&PipelineId::of(&pipeline)) {
            pipeline.status = Some(last.status.clone());
        }
        pipeline
    }

    /// Drops the written status once a watch has observed it.
    pub fn observed(&self, pipeline: &impl Resource) {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let id = pipeline_id(pipeline);
        let is_behind = |last: &Written| {
            pipeline.uid().as_deref() == Some(&last.uid) && version(pipeline.meta()).is_some_and(|version| version < last.version)
        };
        if written.get(&id).is_some_and(|last| !is_behind(last)) {
            written.remove(&id);
        }
    }

    pub fn forget(&self, id: &PipelineId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    pub fn insert(&self, written: &ObjectMeta, id: PipelineId, status: &UserPipelineStatus) {
        let (Some(uid), Some(version)) = (written.uid.clone(), version(written)) else {
            return;
        };
        let written = Written {
            uid,
            version,
            status: status.clone(),
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id, written);
    }
}

/// Resource versions of one object grow, as far as they are numbers.
fn version(meta: &ObjectMeta) -> Option<u64> {
    meta.resource_version.as_deref()?.parse().ok()
}

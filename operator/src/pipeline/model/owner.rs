//! The owner of a pipeline's children.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;
use userpipeline_api::{PodSettings, UserPipeline, names, names::PipelineId};

use super::images::Images;

/// A reference to the owner of a child. A deletion in the foreground (`--cascade=foreground`) waits for the child.
pub fn owner_reference(owner: &impl Resource<DynamicType = ()>) -> Option<OwnerReference> {
    Some(OwnerReference {
        block_owner_deletion: Some(true),
        ..owner.controller_owner_ref(&())?
    })
}

#[derive(Clone, Debug)]
pub struct Owner {
    pub id: PipelineId,
    pub uid: String,
    /// For garbage collection. Objects that must exist until the pipeline is gone have none.
    pub reference: Option<OwnerReference>,
    /// `spec.owner`.
    pub team: Option<String>,
    pub images: Images,
    /// `spec.pods.tasks`.
    pub tasks: PodSettings,
}

impl Owner {
    /// `None` for a pipeline without a name or uid: it does not come from an apiserver.
    pub fn of(pipeline: &UserPipeline, images: Images) -> Option<Self> {
        let reference = owner_reference(pipeline)?;
        Some(Self {
            id: PipelineId::of(pipeline),
            uid: reference.uid.clone(),
            reference: Some(reference),
            team: pipeline.spec.owner.clone(),
            images,
            tasks: pipeline.spec.pods.tasks.clone(),
        })
    }

    /// A hash of image and pod settings of tasks. A task's Job with another hash is replaced: what blocks its pod may be fixed.
    pub fn task_hash(&self) -> String {
        let settings = serde_json::to_string(&self.tasks).unwrap_or_default();
        names::hash(&format!("{}\n{settings}", self.images.of("stream-worker")))
    }
}

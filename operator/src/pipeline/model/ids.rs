//! How objects are identified.

use kube::{Resource, ResourceExt};
use userpipeline_api::names::PipelineId;

/// The id of a pipeline from its metadata, however much else of it was read.
pub fn pipeline_id(pipeline: &impl Resource) -> PipelineId {
    let meta = pipeline.meta();
    PipelineId {
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
    }
}

pub fn has_name(object: &impl Resource, name: &str) -> bool {
    object.name_any() == name
}

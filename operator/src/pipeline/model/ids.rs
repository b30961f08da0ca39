//! How objects are identified.

use kube::{Resource, ResourceExt};
use userpipeline_api::names::PipelineId;

/// The identity of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId {
    pub namespace: String,
    pub name: String,
}

/// The id of a connection from its metadata.
pub fn connection_id(connection: &impl Resource) -> ConnectionId {
    let meta = connection.meta();
    ConnectionId {
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
    }
}

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

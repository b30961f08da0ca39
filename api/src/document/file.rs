//! Reads the file that a pod or a user gives to a binary.

use kube::core::ObjectMeta;
use serde::{Deserialize, de::DeserializeOwned};

use crate::names::PipelineId;

/// Why a pipeline's file cannot be used.
#[derive(Debug)]
pub struct DocumentError(pub(super) String);

impl std::fmt::Display for DocumentError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for DocumentError {}

#[derive(Deserialize)]
struct Document<S> {
    kind: String,
    metadata: ObjectMeta,
    spec: S,
}

pub(super) fn read<S: DeserializeOwned>(text: &str) -> Result<(PipelineId, S), DocumentError> {
    let document: Document<S> = serde_yaml::from_str(text).map_err(|e| DocumentError(format!("the pipeline's file does not read: {e}")))?;
    if document.kind != "UserPipeline" {
        return Err(DocumentError(format!("the file holds a {}, not a UserPipeline", document.kind)));
    }
    let name = document
        .metadata
        .name
        .ok_or_else(|| DocumentError("metadata.name is missing".to_owned()))?;
    let namespace = document.metadata.namespace.unwrap_or_else(|| "default".to_owned());
    Ok((PipelineId { namespace, name }, document.spec))
}

//! Reads the file that a pod or a user gives to a binary.

use kube::core::ObjectMeta;
use serde::{Deserialize, de::DeserializeOwned};

use crate::{ConnectionRef, names::PipelineId};

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
    let document: Document<S> = serde_yaml::from_str(text).map_err(|e| unreadable(text, &e))?;
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

/// Programs receive resolved pipelines: they cannot look up connections.
fn unreadable(text: &str, error: &serde_yaml::Error) -> DocumentError {
    #[derive(Deserialize)]
    struct Named {
        connections: Vec<ConnectionRef>,
    }
    let named = serde_yaml::from_str::<Document<Named>>(text).map(|document| document.spec.connections);
    let hint = if named.is_ok_and(|connections| !connections.is_empty()) {
        "; programs do not read spec.connections: set postgres, kafka, schemaRegistry, cassandra and source.http.url in the file, or use the pipeline.yaml of a ConfigMap of the pipeline"
    } else {
        ""
    };
    DocumentError(format!("the pipeline's file does not read: {error}{hint}"))
}

//! The connections of a pipeline as it last used them, in a ConfigMap of the pipeline. They stand in for connections that are
//! missing, so that the pipeline can be edited meanwhile, and its conflicts are known.

use k8s_openapi::api::core::v1::ConfigMap;
use serde::{Deserialize, Serialize};
use userpipeline_api::UserPipelineConnectionSpec;

/// The key of the ConfigMap.
const KEY: &str = "connections.yaml";

/// A connection as a pipeline used it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredConnection {
    pub name: String,
    pub generation: i64,
    pub spec: UserPipelineConnectionSpec,
}

/// The content of the ConfigMap.
pub fn connections_text(connections: &[StoredConnection]) -> String {
    serde_yaml::to_string(connections).unwrap_or_default()
}

/// The data of the ConfigMap with this content.
pub fn connections_data(text: String) -> (String, String) {
    (KEY.to_owned(), text)
}

/// The connections in a ConfigMap. None if it cannot be read, which only an edit by others can cause.
pub fn stored_connections(config_map: &ConfigMap) -> Vec<StoredConnection> {
    let text = config_map.data.as_ref().and_then(|data| data.get(KEY));
    text.and_then(|text| serde_yaml::from_str(text).ok()).unwrap_or_default()
}

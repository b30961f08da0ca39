//! The ConfigMap of a binary, and that with the connections of a pipeline: immutable, and named by the hash of its content.

use k8s_openapi::api::core::v1::ConfigMap;

use userpipeline_api::names;

use super::pod;
use crate::pipeline::model::{Owner, PodConfig, StoredConnection, connections_data, connections_text, labels};

pub(super) fn build(owner: &Owner, component: labels::Component, config: &PodConfig) -> ConfigMap {
    ConfigMap {
        metadata: labels::meta(owner, config.config_map.clone(), component),
        immutable: Some(true),
        data: Some([(pod::FILE.to_owned(), config.text.clone())].into()),
        ..ConfigMap::default()
    }
}

pub(super) fn of_connections(owner: &Owner, connections: &[StoredConnection]) -> ConfigMap {
    let text = connections_text(connections);
    let suffix = format!("connections-{}", names::hash(&text));
    ConfigMap {
        metadata: labels::meta(
            owner,
            names::child(&owner.id.name, &suffix, names::LABEL_LIMIT),
            labels::Component::Connections,
        ),
        immutable: Some(true),
        data: Some([connections_data(text)].into()),
        ..ConfigMap::default()
    }
}

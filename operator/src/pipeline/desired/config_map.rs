//! The ConfigMap of a binary: immutable, and named by the hash of its content.

use k8s_openapi::api::core::v1::ConfigMap;

use super::pod;
use crate::pipeline::model::{Owner, PodConfig, labels};

pub(super) fn build(owner: &Owner, component: labels::Component, config: &PodConfig) -> ConfigMap {
    ConfigMap {
        metadata: labels::meta(owner, config.config_map.clone(), component),
        immutable: Some(true),
        data: Some([(pod::FILE.to_owned(), config.text.clone())].into()),
        ..ConfigMap::default()
    }
}

//! What a binary reads: immutable, and named by its content.

use k8s_openapi::api::core::v1::ConfigMap;

use super::{labels, pod};
use crate::pipeline::validate::{Document, Parent};

pub(super) fn build(parent: &Parent, component: labels::Component, document: &Document) -> ConfigMap {
    ConfigMap {
        metadata: labels::meta(parent, document.config_map.clone(), component),
        immutable: Some(true),
        data: Some([(pod::FILE.to_owned(), document.text.clone())].into()),
        ..ConfigMap::default()
    }
}

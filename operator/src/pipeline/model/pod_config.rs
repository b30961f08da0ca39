//! What a pod reads: the resource, reduced to what its binary uses, in an immutable ConfigMap, and the Secrets.

use k8s_openapi::api::core::v1::{PodSpec, PodTemplateSpec};
use kube::ResourceExt;
use userpipeline_api::{UserPipeline, document, document::Binary, names};

/// The pod's volume with the ConfigMap.
pub const CONFIG_VOLUME: &str = "pipeline";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodConfig {
    /// The name of the ConfigMap; it contains the hash of `text`.
    pub config_map: String,
    /// The reduced resource, as YAML.
    pub text: String,
    pub secrets: Vec<String>,
}

impl PodConfig {
    /// The config of `binary`, in a ConfigMap with `infix` in its name.
    pub fn of(pipeline: &UserPipeline, binary: Binary, infix: &str) -> Self {
        let text = document::reduce(pipeline, binary);
        let name = pipeline.name_any();
        Self {
            config_map: names::child(&name, &format!("{infix}-{}", names::hash(&text)), names::LABEL_LIMIT),
            text,
            secrets: binary.secrets(pipeline),
        }
    }

    pub fn reference(&self) -> PodConfigRef {
        PodConfigRef {
            config_map: self.config_map.clone(),
            secrets: self.secrets.clone(),
        }
    }
}

/// The ConfigMap and Secrets that a pod mounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodConfigRef {
    pub config_map: String,
    pub secrets: Vec<String>,
}

impl PodConfigRef {
    /// Reads it from the volumes of a live pod.
    pub fn of_pod(pod: &PodSpec) -> Option<Self> {
        let volumes = pod.volumes.as_deref().unwrap_or_default();
        let config_map = volumes.iter().find(|v| v.name == CONFIG_VOLUME)?.config_map.as_ref()?.name.clone();
        let secrets = volumes.iter().filter_map(|v| v.secret.as_ref()?.secret_name.clone()).collect();
        Some(Self { config_map, secrets })
    }

    pub fn of_template(template: &PodTemplateSpec) -> Option<Self> {
        Self::of_pod(template.spec.as_ref()?)
    }
}

//! What a pod reads: the resource, reduced to what its binary uses, in an immutable ConfigMap; the Secrets; and the ConfigMaps
//! with certificates.

use k8s_openapi::api::core::v1::{ConfigMap, PodSpec, PodTemplateSpec};
use userpipeline_api::{
    ResolvedPipeline, TlsMode, document,
    document::{Binary, Mounts, schema_mounts},
    names,
};

/// The pod's volume with the ConfigMap.
pub const CONFIG_VOLUME: &str = "pipeline";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodConfig {
    /// The name of the ConfigMap; it contains the hash of `text`.
    pub config_map: String,
    /// The reduced resource, as YAML.
    pub text: String,
    pub mounts: Mounts,
}

impl PodConfig {
    /// The config of `binary`, in a ConfigMap with `infix` in its name. `default_tls` holds where the spec omits `tls`.
    pub fn of(pipeline: &ResolvedPipeline, default_tls: TlsMode, binary: Binary, infix: &str) -> Self {
        let text = match default_tls {
            TlsMode::VerifyFull => document::reduce(pipeline, binary),
            TlsMode::Disable => {
                let written = ResolvedPipeline {
                    spec: pipeline.spec.clone().with_plain_text_default(),
                    ..pipeline.clone()
                };
                document::reduce(&written, binary)
            }
        };
        Self {
            config_map: names::child(&pipeline.id.name, &format!("{infix}-{}", names::hash(&text)), names::LABEL_LIMIT),
            text,
            mounts: binary.mounts(pipeline),
        }
    }

    /// The config of a deletion Job that an earlier reconcile stored in this ConfigMap. `None` if it cannot be read.
    pub fn stored(config_map: &ConfigMap) -> Option<Self> {
        let text = config_map.data.as_ref()?.values().next()?.clone();
        Some(Self {
            config_map: config_map.metadata.name.clone()?,
            mounts: schema_mounts(&text).ok()?,
            text,
        })
    }

    pub fn reference(&self) -> PodConfigRef {
        PodConfigRef {
            config_map: self.config_map.clone(),
            mounts: self.mounts.clone(),
        }
    }
}

/// The ConfigMap with the config, and what a pod mounts besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodConfigRef {
    pub config_map: String,
    pub mounts: Mounts,
}

impl PodConfigRef {
    /// Reads it from the volumes of a live pod.
    pub fn of_pod(pod: &PodSpec) -> Option<Self> {
        let volumes = pod.volumes.as_deref().unwrap_or_default();
        let config_map = volumes.iter().find(|v| v.name == CONFIG_VOLUME)?.config_map.as_ref()?.name.clone();
        let others = volumes.iter().filter(|v| v.name != CONFIG_VOLUME);
        let mounts = Mounts {
            secrets: volumes.iter().filter_map(|v| v.secret.as_ref()?.secret_name.clone()).collect(),
            config_maps: others.filter_map(|v| Some(v.config_map.as_ref()?.name.clone())).collect(),
        };
        Some(Self { config_map, mounts })
    }

    pub fn of_template(template: &PodTemplateSpec) -> Option<Self> {
        Self::of_pod(template.spec.as_ref()?)
    }
}

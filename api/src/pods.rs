//! Settings of a pipeline's pods. The list is closed, so that the right to edit a pipeline does not include
//! the right to create arbitrary pods.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, ResourceRequirements, Toleration, TopologySpreadConstraint};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings of the pods of each program.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pods {
    /// Pods of runs (`ingest-job`).
    #[serde(default)]
    pub ingest: PodSettings,
    /// Pods of workers.
    #[serde(default)]
    pub workers: PodSettings,
    /// Pods of schema, drain and deletion Jobs.
    #[serde(default)]
    pub tasks: PodSettings,
}

/// Settings of pods.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodSettings {
    /// CPU and memory. Default: small requests, and a memory limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Labels that a node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints of nodes that are tolerated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
    /// Node and pod affinity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// How pods are spread over zones and nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// Priority class of the pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
    /// Additional labels. Labels of `kubernetes.io` and `userpipeline.dev` are reserved.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub labels: BTreeMap<String, String>,
    /// Additional annotations. Annotations of `kubernetes.io` and `userpipeline.dev` are reserved, except
    /// `cluster-autoscaler.kubernetes.io/…`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub annotations: BTreeMap<String, String>,
    /// HTTP proxy for the source and the schema registry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Proxy>,
}

/// An HTTP proxy: the environment variables `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Proxy {
    /// URL of the proxy for `http` URLs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = Rule::new("self.matches('^https?://[^@/?#\\\\s]+/?$')")
        .message("proxy.http must be an http or https address without user name and password: the spec must not contain secrets"))]
    pub http: Option<String>,
    /// URL of the proxy for `https` URLs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = Rule::new("self.matches('^https?://[^@/?#\\\\s]+/?$')")
        .message("proxy.https must be an http or https address without user name and password: the spec must not contain secrets"))]
    pub https: Option<String>,
    /// Hosts, domains and networks that are reached without the proxy, separated by commas:
    /// `.svc.cluster.local,10.0.0.0/8`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub no_proxy: Option<String>,
}

/// Images of the pods. Default: registry and tag of the operator's installation.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// Registry with its path. The operator must allow it (`image.allowedRegistries` of its chart).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub registry: Option<String>,
    /// Image tag. It pins the pipeline: an upgrade of the operator does not restart its pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9_][A-Za-z0-9_.-]*$')").message("spec.image.version must be an image tag"))]
    pub version: Option<String>,
}

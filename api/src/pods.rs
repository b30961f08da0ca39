//! What the pods of a pipeline are to be like: a closed list, so that whoever may write a pipeline gains no right to make
//! whatever pods they like.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, ResourceRequirements, Toleration, TopologySpreadConstraint};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the pods of each program are to be like.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pods {
    /// Runs of `ingest-job`.
    #[serde(default)]
    pub ingest: PodSettings,
    /// Workers.
    #[serde(default)]
    pub workers: PodSettings,
    /// The Jobs that work for the operator: schema, drain and deletion Jobs.
    #[serde(default)]
    pub tasks: PodSettings,
}

/// What pods are to be like.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodSettings {
    /// CPU and memory; modest requests and a memory limit when not given.
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
    /// Which nodes and neighbours are preferred or required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// How pods are spread over zones and nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// Which pods go first, and which are evicted last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
    /// More labels. Those of Kubernetes (`kubernetes.io/…`) and ours (`userpipeline.dev/…`) cannot be set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub labels: BTreeMap<String, String>,
    /// More annotations; the same holds for them, but for `cluster-autoscaler.kubernetes.io/…`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub annotations: BTreeMap<String, String>,
    /// The way out to HTTP addresses: the source, the schema registry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Proxy>,
}

/// An HTTP proxy, as the environment variables `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` give it.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Proxy {
    /// For `http` addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = Rule::new("self.matches('^https?://[^@/?#\\\\s]+/?$')")
        .message("proxy.http must be an http or https address, without user name and password: the spec is no place for secrets"))]
    pub http: Option<String>,
    /// For `https` addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = Rule::new("self.matches('^https?://[^@/?#\\\\s]+/?$')")
        .message("proxy.https must be an http or https address, without user name and password: the spec is no place for secrets"))]
    pub https: Option<String>,
    /// Hosts, domains and networks that are reached without: `.svc.cluster.local,10.0.0.0/8`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub no_proxy: Option<String>,
}

/// Which images the pods run; the operator's own where nothing is given.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// The registry with its path, one of those that the operator allows (`image.allowedRegistries` of its chart).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub registry: Option<String>,
    /// The version, an image tag. Workers of a pinned version are not rolled by an upgrade of the operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9_][A-Za-z0-9_.-]*$')").message("spec.image.version must be an image tag"))]
    pub version: Option<String>,
}

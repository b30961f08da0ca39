//! Kafka clusters that Strimzi runs.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::SecretRef;

/// A listener of a Kafka cluster that Strimzi runs in this Kubernetes cluster. Its bootstrap address and
/// authorities come from `status.listeners` of the `Kafka` resource, and follow it.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StrimziListener {
    /// Name of the `Kafka` resource. The chart value `strimzi.clusters` must list the cluster.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$')")
        .message("spec.kafka.strimzi.cluster must be the name of a Kafka resource"))]
    pub cluster: String,
    /// Namespace of the `Kafka` resource.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$')")
        .message("spec.kafka.strimzi.namespace must be the name of a namespace"))]
    pub namespace: String,
    /// Name of a listener in `spec.kafka.listeners` of the `Kafka` resource. One with `tls: true` is
    /// encrypted and verified fully, and one without is plain text.
    #[schemars(length(min = 1, max = 63))]
    pub listener: String,
}

/// A `KafkaUser` of Strimzi. The listener decides whether it authenticates with SCRAM-SHA-512 or with a client
/// certificate.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.username) || has(self.secretRef)")
    .message("spec.kafka.auth.strimziUser.username needs secretRef, because the operator names the users that it creates"))]
pub struct StrimziUser {
    /// A copy of the Secret of an existing `KafkaUser`, with the keys `password`, or `user.crt` and `user.key`.
    /// All pipelines of the connection use it. Default: the operator creates a `KafkaUser` for each pipeline,
    /// with the ACLs that it needs, where the User Operator watches the namespace of the connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
    /// Name of that `KafkaUser`, for SCRAM-SHA-512. Default: the name of the Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$')")
        .message("spec.kafka.auth.strimziUser.username must be the name of a KafkaUser"))]
    pub username: Option<String>,
    /// Authentication of the listener. It is no field of the resource: the operator adds it for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub authentication: Option<UserAuthentication>,
}

/// How a `KafkaUser` authenticates, as Strimzi names it.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum UserAuthentication {
    /// A user name and a password.
    #[serde(rename = "scram-sha-512")]
    ScramSha512,
    /// A client certificate.
    #[serde(rename = "tls")]
    Tls,
}

impl UserAuthentication {
    /// The type of a listener or a `KafkaUser`. None for any other type.
    pub fn of(type_: &str) -> Option<Self> {
        match type_ {
            "scram-sha-512" => Some(Self::ScramSha512),
            "tls" => Some(Self::Tls),
            _ => None,
        }
    }

    /// As Strimzi names it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ScramSha512 => "scram-sha-512",
            Self::Tls => "tls",
        }
    }
}

/// What the operator last found of a listener in its `Kafka` resource. Pipelines use it.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KafkaListenerStatus {
    /// The listener.
    pub strimzi: StrimziListener,
    /// Bootstrap brokers.
    #[schemars(length(min = 3, max = 2048))]
    pub bootstrap_servers: String,
    /// Whether the listener encrypts.
    pub tls: bool,
    /// Authentication of the listener, such as `scram-sha-512` or `tls`. Absent if it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authentication: Option<String>,
    /// Certificates of the authorities that sign the brokers' certificates, in PEM. Those that the `Kafka`
    /// resource no longer lists stay until they expire.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(max = 16384)))]
    pub certificates: Vec<String>,
}

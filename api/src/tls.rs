//! Encryption and verification of connections.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{SecretKeyRef, SecretRef};

/// Certificates of authorities, in PEM: exactly one of `configMapKeyRef` and `secretKeyRef`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.configMapKeyRef) != has(self.secretKeyRef)")
    .message("ca must have exactly one of configMapKeyRef and secretKeyRef"))]
pub struct CaSource {
    /// A key of a ConfigMap in the pipeline's namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<ConfigMapKeyRef>,
    /// A key of a Secret in the pipeline's namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<SecretKeyRef>,
}

/// A key of a ConfigMap in the pipeline's namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapKeyRef {
    /// Name of the ConfigMap.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$')").message("the name of a ConfigMap must contain only lower-case letters, digits, '-' and '.'"))]
    pub name: String,
    /// Key in the ConfigMap.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9._-]+$') && self != '.' && self != '..'").message("a key of a ConfigMap must contain only letters, digits, '-', '_' and '.'"))]
    pub key: String,
}

/// Certificates of a connection.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificates {
    /// Certificates of the authorities that sign the servers' certificates, in PEM. Default: the public
    /// authorities of the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<CaSource>,
    /// Client certificate for mutual TLS: a Secret of type kubernetes.io/tls, with the keys `tls.crt` and
    /// `tls.key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_secret_ref: Option<SecretRef>,
}

/// TLS of connections to PostgreSQL.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.mode != 'Disable' || (!has(self.ca) && !has(self.clientSecretRef))")
    .message("spec.postgres.tls.ca and clientSecretRef are not allowed with mode Disable"))]
pub struct PostgresTls {
    /// Whether connections are encrypted, and what is verified.
    #[serde(default)]
    pub mode: PostgresTlsMode,
    /// Authorities and client certificate.
    #[serde(flatten)]
    pub certificates: Certificates,
}

/// Encryption and verification of connections to PostgreSQL.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PostgresTlsMode {
    /// Encrypts, and verifies the server's certificate: its authority, its validity, and the name in `host`.
    #[default]
    VerifyFull,
    /// Encrypts, and verifies the server's certificate except for its name. Any server with a certificate of
    /// these authorities is accepted.
    VerifyCa,
    /// Does not encrypt.
    Disable,
}

/// TLS of connections to Kafka.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.mode != 'Disable' || (!has(self.ca) && !has(self.clientSecretRef))")
    .message("spec.kafka.tls.ca and clientSecretRef are not allowed with mode Disable"))]
pub struct KafkaTls {
    /// Whether connections are encrypted and verified.
    #[serde(default)]
    pub mode: TlsMode,
    /// Authorities and client certificate.
    #[serde(flatten)]
    pub certificates: Certificates,
}

/// TLS of connections to Cassandra.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.mode != 'Disable' || (!has(self.ca) && !has(self.clientSecretRef) && !has(self.serverName))")
    .message("spec.cassandra.tls.ca, clientSecretRef and serverName are not allowed with mode Disable"))]
pub struct CassandraTls {
    /// Whether connections are encrypted and verified.
    #[serde(default)]
    pub mode: TlsMode,
    /// Authorities and client certificate.
    #[serde(flatten)]
    pub certificates: Certificates,
    /// Name that the certificate of each node must have. Nodes are reached at IP addresses, which
    /// certificates seldom contain. Default: the host of the first contact point.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9.:_-]+$')")
        .message("spec.cassandra.tls.serverName must be a host name or an IP address"))]
    pub server_name: Option<String>,
}

/// Encryption and verification of connections.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TlsMode {
    /// Encrypts, and verifies the server's certificate: its authority, its validity and its name.
    #[default]
    VerifyFull,
    /// Does not encrypt.
    Disable,
}

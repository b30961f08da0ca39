//! Authentication of connections.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::{HeaderSource, SecretRef};

/// User name and password.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Basic {
    /// Secret with the keys `username` and `password`.
    pub credentials_secret_ref: SecretRef,
}

/// Authentication to a schema registry: exactly one of these.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.basic) != has(self.bearer)")
    .message("spec.schemaRegistry.auth takes exactly one of basic and bearer"))]
pub struct RegistryAuth {
    /// User name and password, from the keys `username` and `password` of a Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basic: Option<Basic>,
    /// A bearer token, from a key of a Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bearer: Option<HeaderSource>,
}

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
    .message("spec.schemaRegistry.auth must have exactly one of basic and bearer"))]
pub struct RegistryAuth {
    /// User name and password, from the keys `username` and `password` of a Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basic: Option<Basic>,
    /// A bearer token, from a key of a Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bearer: Option<HeaderSource>,
}

/// Authentication to Kafka by SASL: exactly one of these.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.scramSha512), has(self.scramSha256), has(self.plain)].filter(given, given).size() == 1")
    .message("spec.kafka.auth must have exactly one of scramSha512, scramSha256 and plain"))]
pub struct KafkaAuth {
    /// SCRAM-SHA-512.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scram_sha512: Option<Basic>,
    /// SCRAM-SHA-256.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scram_sha256: Option<Basic>,
    /// PLAIN, which sends the password itself. It requires `tls`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plain: Option<Basic>,
}

/// A mechanism of SASL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaslMechanism {
    /// SCRAM-SHA-512.
    ScramSha512,
    /// SCRAM-SHA-256.
    ScramSha256,
    /// PLAIN.
    Plain,
}

impl SaslMechanism {
    /// Its name in the protocol.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ScramSha512 => "SCRAM-SHA-512",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::Plain => "PLAIN",
        }
    }

    /// Its member of `auth`.
    pub const fn member(self) -> &'static str {
        match self {
            Self::ScramSha512 => "scramSha512",
            Self::ScramSha256 => "scramSha256",
            Self::Plain => "plain",
        }
    }
}

impl KafkaAuth {
    /// The mechanism, and the Secret with user name and password. None if no member is set, which the rules
    /// refuse.
    pub fn mechanism(&self) -> Option<(SaslMechanism, &SecretRef)> {
        let members = [
            (SaslMechanism::ScramSha512, &self.scram_sha512),
            (SaslMechanism::ScramSha256, &self.scram_sha256),
            (SaslMechanism::Plain, &self.plain),
        ];
        let mut given = members
            .into_iter()
            .filter_map(|(mechanism, basic)| Some((mechanism, basic.as_ref()?)));
        given.next().map(|(mechanism, basic)| (mechanism, &basic.credentials_secret_ref))
    }
}

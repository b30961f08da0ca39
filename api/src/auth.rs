//! Authentication of connections.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::{HeaderSource, SecretRef, StrimziUser, UserAuthentication};

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

/// Authentication to Kafka: exactly one of these.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.scramSha512), has(self.scramSha256), has(self.plain), has(self.strimziUser)].filter(given, given).size() == 1")
    .message("spec.kafka.auth must have exactly one of scramSha512, scramSha256, plain and strimziUser"))]
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
    /// A `KafkaUser` of Strimzi, by the authentication of the listener. Only in a connection with `strimzi`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strimzi_user: Option<StrimziUser>,
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

/// How a client of Kafka authenticates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KafkaLogin<'a> {
    /// By SASL, with the key `password` of a Secret.
    Password {
        /// The mechanism.
        mechanism: SaslMechanism,
        /// The Secret.
        secret: &'a SecretRef,
        /// The user name. None: it is in the key `username`.
        username: Option<&'a str>,
    },
    /// By a client certificate, in the keys `user.crt` and `user.key` of a Secret.
    Certificate {
        /// The Secret.
        secret: &'a SecretRef,
    },
    /// By a `KafkaUser` that is known only once the pipeline and the listener are resolved.
    Unresolved,
}

impl KafkaAuth {
    /// None if no member is set, which the rules refuse.
    pub fn login(&self) -> Option<KafkaLogin<'_>> {
        if let Some(user) = &self.strimzi_user {
            return Some(user.login());
        }
        let members = [
            (SaslMechanism::ScramSha512, &self.scram_sha512),
            (SaslMechanism::ScramSha256, &self.scram_sha256),
            (SaslMechanism::Plain, &self.plain),
        ];
        let mut set = members
            .into_iter()
            .filter_map(|(mechanism, basic)| Some((mechanism, basic.as_ref()?)));
        set.next().map(|(mechanism, basic)| KafkaLogin::Password {
            mechanism,
            secret: &basic.credentials_secret_ref,
            username: None,
        })
    }

    /// The path of the reference to the Secret, below `auth`.
    pub fn secret_field(&self) -> String {
        match self.login() {
            Some(KafkaLogin::Password { mechanism, .. }) if self.strimzi_user.is_none() => {
                format!("{}.credentialsSecretRef", mechanism.member())
            }
            _ => "strimziUser".to_owned(),
        }
    }
}

impl StrimziUser {
    fn login(&self) -> KafkaLogin<'_> {
        match (&self.secret_ref, self.authentication) {
            (Some(secret), Some(UserAuthentication::ScramSha512)) => KafkaLogin::Password {
                mechanism: SaslMechanism::ScramSha512,
                secret,
                username: Some(self.username.as_deref().unwrap_or(&secret.name)),
            },
            (Some(secret), Some(UserAuthentication::Tls)) => KafkaLogin::Certificate { secret },
            _ => KafkaLogin::Unresolved,
        }
    }
}

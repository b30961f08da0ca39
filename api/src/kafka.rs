//! The blocks of a pipeline about the topic, its schema, and its dead letters.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Certificates, Duration, KafkaAuth, KafkaTls, RegistryAuth, source::DurationText, units::seconds};

/// Form of `bootstrapServers`, as a CEL rule.
pub(crate) const IS_BOOTSTRAP_SERVERS: &str = "self.matches('^[^,:\\\\s]+:[0-9]{1,5}(,[^,:\\\\s]+:[0-9]{1,5})*$')";
/// Form of a registry's `url`, as a CEL rule.
pub(crate) const IS_REGISTRY_URL: &str = "self.matches('^https?://[^@/?#\\\\s]+(/[^?#\\\\s]*)?$')";

/// A Kafka cluster, and the topic and consumer group of the pipeline.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.bootstrapServers) || (!has(self.tls) && !has(self.auth))")
        .message("spec.kafka.tls and spec.kafka.auth belong to spec.kafka.bootstrapServers: set all of them here, or all in a connection"),
    validation = Rule::new("!has(self.auth) || !has(self.auth.strimziUser)")
        .message("spec.kafka.auth.strimziUser is not allowed in a pipeline: name a connection with kafka.strimzi"),
    validation = Rule::new("!has(self.auth) || !has(self.auth.plain) || (has(self.tls) && self.tls.mode != 'Disable')")
        .message("spec.kafka.auth.plain needs spec.kafka.tls with mode VerifyFull, because it sends the password itself"),
)]
pub struct KafkaSpec {
    /// Bootstrap brokers: `host:port`, several separated by commas. Default: those of a connection, with its
    /// `tls` and `auth`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 2048))]
    #[x_kube(validation = Rule::new(IS_BOOTSTRAP_SERVERS)
        .message("spec.kafka.bootstrapServers must be host:port, or several of them separated by commas"))]
    pub bootstrap_servers: Option<String>,
    /// Encryption and verification. Without `tls`, traffic is encrypted and the server is verified fully; in a
    /// pipeline that is older than this default, it is plain text (`status.defaultTlsMode`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<KafkaTls>,
    /// Authentication. Default: none, or the client certificate of `tls`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<KafkaAuth>,
    /// Consumer group of the workers. Default: `<namespace>.<name>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 249))]
    pub group_id: Option<String>,
    /// The topic between the landing table and the sinks.
    #[serde(default)]
    pub topic: TopicSpec,
}

/// The topic between the landing table and the sinks.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicSpec {
    /// Name of the topic. Default: `<namespace>.<name>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 245))]
    #[x_kube(validation = Rule::new("self.matches('^[a-zA-Z0-9._-]+$') && self != '.' && self != '..'")
        .message("spec.kafka.topic.name must contain only letters, digits, '.', '_' and '-'"))]
    pub name: Option<String>,
    /// Number of partitions. More workers than partitions are idle.
    #[serde(default = "partitions")]
    #[schemars(range(min = 1, max = 10_000))]
    pub partitions: i32,
    /// Number of replicas of each partition. Default: that of the connection, or 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 32))]
    pub replicas: Option<i32>,
    /// Configs of the topic, such as `retention.ms`. `max.message.bytes`, in bytes, limits the size of a
    /// record: 15/16 of it, and at most 8 MiB. Default of `max.message.bytes`: 1,179,648 in a topic that the
    /// pipeline creates. An externally managed topic is assumed to have Kafka's default, 1,048,588.
    /// Configs of the connection that are not set here apply as well.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub config: BTreeMap<String, String>,
    /// Who creates the topic. Default: what the connection says; otherwise `Strimzi` where the connection has
    /// `strimzi`, and `Direct` elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub management: Option<TopicManagement>,
    /// Whether the pipeline takes over a topic, a dead-letter topic and a subject that it did not create: it
    /// sets their partitions, configs and compatibility, and never deletes them. Otherwise its schema Job
    /// fails with `TopicNotCreated` or `SubjectNotCreated`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopt: bool,
}

impl Default for TopicSpec {
    fn default() -> Self {
        Self {
            name: None,
            partitions: partitions(),
            replicas: None,
            config: BTreeMap::new(),
            management: None,
            adopt: false,
        }
    }
}

/// Who creates the topic.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TopicManagement {
    /// The pipeline creates the topic, through Kafka's admin API.
    #[default]
    Direct,
    /// The operator creates a `KafkaTopic`, from which Strimzi's Topic Operator creates the topic. It needs a
    /// connection with `strimzi`.
    Strimzi,
    /// The topic is managed externally: it must exist, and is not changed.
    None,
}

/// A schema registry with Confluent's API.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.tls) || (has(self.url) && self.url.startsWith('https://'))")
        .message("spec.schemaRegistry.tls needs an https address in spec.schemaRegistry.url"),
    validation = Rule::new("!has(self.auth) || (has(self.url) && self.url.startsWith('https://'))")
        .message("spec.schemaRegistry.auth needs an https address in spec.schemaRegistry.url: credentials are not sent in plain text"),
)]
pub struct SchemaRegistrySpec {
    /// URL of the registry: `https` encrypts and verifies fully, `http` is plain text. A path prefix is
    /// allowed (Apicurio: `https://…/apis/ccompat/v7`). Redirects are not followed. Default: that of a
    /// connection, with its `tls` and `auth`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 2048))]
    #[x_kube(validation = Rule::new(IS_REGISTRY_URL)
        .message("spec.schemaRegistry.url must be an http or https address without user name, query and fragment"))]
    pub url: Option<String>,
    /// Authorities and client certificate of an `https` address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Certificates>,
    /// Authentication, with an `https` address only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<RegistryAuth>,
    /// Compatibility of the subject `<topic>-value`, which the schema Job sets. Default: the registry's
    /// compatibility is not changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compatibility: Option<Compatibility>,
}

/// Compatibility of a subject: which versions of its schema must be able to read each other's data.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Compatibility {
    /// No check.
    None,
    /// New readers read what the last version wrote.
    Backward,
    /// New readers read what any version wrote.
    BackwardTransitive,
    /// Readers of the last version read what new writers write.
    Forward,
    /// Readers of any version read what new writers write.
    ForwardTransitive,
    /// Backward and forward, with the last version.
    Full,
    /// Backward and forward, with any version.
    FullTransitive,
}

impl Compatibility {
    /// The level as in the registry's API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Backward => "BACKWARD",
            Self::BackwardTransitive => "BACKWARD_TRANSITIVE",
            Self::Forward => "FORWARD",
            Self::ForwardTransitive => "FORWARD_TRANSITIVE",
            Self::Full => "FULL",
            Self::FullTransitive => "FULL_TRANSITIVE",
        }
    }
}

/// Messages that cannot be read, or that a store refuses for their content.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetter {
    /// Name of the dead-letter topic. Default: the name of the topic with the suffix `.dlq`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 249))]
    #[x_kube(validation = Rule::new("self.matches('^[a-zA-Z0-9._-]+$') && self != '.' && self != '..'")
        .message("spec.deadLetter.topic must contain only letters, digits, '.', '_' and '-'"))]
    pub topic: Option<String>,
    /// Greatest allowed share of dead letters among the most recent messages, at least a hundred. A worker
    /// that would exceed it waits, with the reason `TooManyDeadLetters`. 0 allows none, 1 allows all.
    #[serde(default = "max_ratio")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub max_ratio: f64,
    /// How long dead letters are kept: `retention.ms` of the dead-letter topic, if the pipeline creates it.
    #[serde(default = "dead_letter_retention")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1h') && duration(self) <= duration('87600h')")
        .message("spec.deadLetter.retention must be between 1h and 87600h (10 years)"))]
    #[schemars(with = "DurationText")]
    pub retention: Duration,
}

impl Default for DeadLetter {
    fn default() -> Self {
        Self {
            topic: None,
            max_ratio: max_ratio(),
            retention: dead_letter_retention(),
        }
    }
}

const fn max_ratio() -> f64 {
    0.5
}

/// Four weeks to notice and redrive them.
fn dead_letter_retention() -> Duration {
    seconds(4 * 7 * 24 * 3600).into()
}

pub(crate) const fn partitions() -> i32 {
    6
}

//! The topic, its schema, and its dead letters.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Certificates, Duration, KafkaAuth, KafkaTls, RegistryAuth, source::DurationText, units::seconds};

/// A Kafka cluster, and the topic and consumer group of the pipeline.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.groupId) ? self.groupId : '') == (has(oldSelf.groupId) ? oldSelf.groupId : '')")
        .message("spec.kafka.groupId cannot be changed, because offsets and totals are stored under it: create a new pipeline instead"),
    validation = Rule::new("!has(self.auth) || !has(self.auth.plain) || (has(self.tls) && self.tls.mode != 'Disable')")
        .message("spec.kafka.auth.plain needs spec.kafka.tls with mode VerifyFull, because it sends the password itself"),
)]
pub struct Kafka {
    /// Bootstrap brokers: `host:port`, several separated by commas.
    #[schemars(length(min = 3, max = 2048))]
    #[x_kube(validation = Rule::new("self.matches('^[^,:\\\\s]+:[0-9]{1,5}(,[^,:\\\\s]+:[0-9]{1,5})*$')")
        .message("spec.kafka.bootstrapServers must be host:port, or several of them separated by commas"))]
    pub bootstrap_servers: String,
    /// Encryption and verification. Without `tls`, connections are encrypted and verified fully; in a pipeline
    /// that is older than this default, they are plain text (`status.defaultTlsMode`).
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
    pub topic: Topic,
}

/// How to reach the brokers of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Brokers {
    /// `host:port`, several separated by commas.
    pub bootstrap_servers: String,
    /// Encryption. Default: verifies fully.
    pub tls: Option<KafkaTls>,
    /// Authentication.
    pub auth: Option<KafkaAuth>,
}

impl Kafka {
    /// How to reach the brokers.
    pub fn brokers(&self) -> Brokers {
        Brokers {
            bootstrap_servers: self.bootstrap_servers.clone(),
            tls: self.tls.clone(),
            auth: self.auth.clone(),
        }
    }
}

/// The topic between the landing table and the sinks.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.name) ? self.name : '') == (has(oldSelf.name) ? oldSelf.name : '')")
        .message("spec.kafka.topic.name cannot be changed: create a new pipeline instead"),
    validation = Rule::new("self.partitions >= oldSelf.partitions")
        .message("spec.kafka.topic.partitions can only grow: Kafka does not remove partitions"),
    validation = Rule::new("self.replicas == oldSelf.replicas")
        .message("spec.kafka.topic.replicas cannot be changed: reassign the partitions with Kafka's own tools"),
)]
pub struct Topic {
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
    /// Number of replicas of each partition.
    #[serde(default = "replicas")]
    #[schemars(range(min = 1, max = 32))]
    pub replicas: i32,
    /// Configs of the topic, such as `retention.ms`. `max.message.bytes`, in bytes, limits the size of a
    /// record: 15/16 of it, and at most 8 MiB. Default of `max.message.bytes`: 1,179,648 in a topic that the
    /// pipeline creates. An externally managed topic is assumed to have Kafka's default, 1,048,588.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub config: BTreeMap<String, String>,
    /// Who creates the topic.
    #[serde(default)]
    pub management: TopicManagement,
}

impl Default for Topic {
    fn default() -> Self {
        Self {
            name: None,
            partitions: partitions(),
            replicas: replicas(),
            config: BTreeMap::new(),
            management: TopicManagement::default(),
        }
    }
}

/// The topic config that limits the size of a message, in bytes.
pub const MAX_MESSAGE_BYTES: &str = "max.message.bytes";
/// Default of `max.message.bytes`, in bytes, in topics that the pipeline creates: a record of 1 MiB fits.
const OUR_LIMIT: u64 = 1_152 << 10;
/// Kafka's default, in bytes.
const KAFKA_LIMIT: u64 = 1_048_588;
/// Room for key, headers and frame, in bytes. The key has up to 2,048 bytes, and is part of the record as
/// well.
const AROUND: u64 = 4 << 10;
/// The largest record, in bytes, for any topic: runs and workers hold several records in memory, and
/// Cassandra takes 16 MiB at once.
const MAX_RECORD: u64 = 8 << 20;

impl Topic {
    /// The largest message, in bytes: as declared; the default of a created topic; or Kafka's default for an
    /// externally managed one.
    pub fn message_limit(&self) -> u64 {
        let declared = self.config.get(MAX_MESSAGE_BYTES).and_then(|text| text.trim().parse().ok());
        declared.unwrap_or(match self.management {
            TopicManagement::Direct => OUR_LIMIT,
            TopicManagement::None => KAFKA_LIMIT,
        })
    }

    /// The largest record, in bytes, that a run accepts. 1/16 of the message, and at least 4 KiB, is reserved
    /// for key, headers and frame. A larger record would land, and then stay in the outbox forever.
    pub fn record_limit(&self) -> usize {
        let message = self.message_limit();
        let record = message.saturating_sub(AROUND.max(message / 16)).min(MAX_RECORD);
        usize::try_from(record).unwrap_or(usize::MAX)
    }
}

/// Who creates the topic.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TopicManagement {
    /// The pipeline creates the topic, through Kafka's admin API.
    #[default]
    Direct,
    /// The topic is managed externally: it must exist, and is not changed.
    None,
}

/// A schema registry with Confluent's API.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.tls) || self.url.startsWith('https://')")
        .message("spec.schemaRegistry.tls needs an https address in spec.schemaRegistry.url"),
    validation = Rule::new("!has(self.auth) || self.url.startsWith('https://')")
        .message("spec.schemaRegistry.auth needs an https address in spec.schemaRegistry.url: credentials are not sent in plain text"),
)]
pub struct SchemaRegistry {
    /// URL of the registry: `https` encrypts and verifies fully, `http` is plain text. A path prefix is
    /// allowed (Apicurio: `https://…/apis/ccompat/v7`). Redirects are not followed.
    #[schemars(length(min = 8, max = 2048))]
    #[x_kube(validation = Rule::new("self.matches('^https?://[^@/?#\\\\s]+(/[^?#\\\\s]*)?$')")
        .message("spec.schemaRegistry.url must be an http or https address without user name, query and fragment"))]
    pub url: String,
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

impl SchemaRegistry {
    /// What programs need that do not change subjects.
    pub(crate) fn without_compatibility(self) -> Self {
        Self {
            compatibility: None,
            ..self
        }
    }
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

const fn partitions() -> i32 {
    6
}

const fn replicas() -> i32 {
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_room_in_a_message_of_its_topic() {
        use TopicManagement::{Direct, None};
        for (management, declared, record) in [
            (Direct, "", 1_080 << 10),
            (None, "", 983_052),
            (Direct, " 16000", 11_904),
            (None, "5000000", 4_687_500),
            (None, "2000000000", 8 << 20),
            (Direct, "1000", 0),
        ] {
            let mut topic = Topic {
                management,
                ..Topic::default()
            };
            if !declared.is_empty() {
                topic.config.insert(MAX_MESSAGE_BYTES.to_owned(), declared.to_owned());
            }
            assert_eq!(topic.record_limit(), record, "{management:?} {declared}");
        }
    }
}

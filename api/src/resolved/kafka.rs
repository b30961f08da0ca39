//! Kafka and the schema registry of a resolved pipeline.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Certificates, Compatibility, KafkaAuth, KafkaTls, RegistryAuth, TopicManagement, kafka::partitions};

/// A Kafka cluster, and the topic and consumer group of the pipeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kafka {
    /// `host:port`, several separated by commas.
    pub bootstrap_servers: String,
    /// Encryption. Default: verifies fully.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<KafkaTls>,
    /// Authentication. Default: none, or the client certificate of `tls`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<KafkaAuth>,
    /// Consumer group. None in a file that a user wrote: the programs derive it.
    #[serde(skip_serializing_if = "Option::is_none")]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Topic {
    /// Name of the topic. None in a file that a user wrote: the programs derive it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Number of partitions.
    #[serde(default = "partitions")]
    pub partitions: i32,
    /// Number of replicas of each partition.
    #[serde(default = "replicas")]
    pub replicas: i32,
    /// Configs of the topic, such as `retention.ms`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, String>,
    /// Who creates the topic.
    #[serde(default)]
    pub management: TopicManagement,
    /// Whether the pipeline takes over existing topics that it did not create.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopt: bool,
    /// The id of the topic in Kafka, where Strimzi manages it. Programs refuse a topic with another one: it was
    /// deleted, and re-created without its messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

impl Default for Topic {
    fn default() -> Self {
        Self {
            name: None,
            partitions: partitions(),
            replicas: replicas(),
            config: BTreeMap::new(),
            management: TopicManagement::default(),
            adopt: false,
            id: None,
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
            TopicManagement::Direct | TopicManagement::Strimzi => OUR_LIMIT,
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

/// A schema registry with Confluent's API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SchemaRegistry {
    /// URL of the registry: `https` encrypts and verifies fully, `http` is plain text.
    pub url: String,
    /// Authorities and client certificate of an `https` address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Certificates>,
    /// Authentication, with an `https` address only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<RegistryAuth>,
    /// Compatibility of the subject. None: the registry's compatibility is not changed.
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

pub(super) const fn replicas() -> i32 {
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

//! Status of the topics that Strimzi manages for a pipeline.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{StrimziListener, lists::without_default, omitted::is_zero};

/// Annotation on a pipeline: ids of topics that are accepted although they replaced others, separated by commas.
pub const ACCEPT_TOPIC: &str = "userpipeline.dev/accept-topic";

/// The `KafkaTopic` resources of a pipeline, from which Strimzi's Topic Operator creates its topics.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicsStatus {
    /// The Kafka cluster, as `NAMESPACE/NAME` of its `Kafka` resource.
    pub cluster: String,
    /// The `KafkaTopic` resources of the topic and of the dead-letter topic, as far as they exist.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["topic"]))]
    pub resources: Vec<TopicResource>,
    /// What a Job found in Kafka before the resources were created.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inspection: Option<InspectionStatus>,
    /// The spec no longer manages topics through Strimzi: the resources stay, and are not deleted with the
    /// pipeline.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retained: bool,
}

/// A `KafkaTopic` resource.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicResource {
    /// Name of the topic.
    pub topic: String,
    /// Name of the resource.
    pub name: String,
    /// Uid of the resource.
    pub uid: String,
    /// Id of the topic in Kafka. Workers refuse a topic with another one until it is accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Whether the topic existed before, and was adopted. It is not deleted with the pipeline.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[schemars(transform = without_default)]
    pub adopted: bool,
}

/// What a Job found in Kafka before `KafkaTopic` resources were created.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InspectionStatus {
    /// Hash of what was inspected: cluster and topics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Time of the inspection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inspected_at: Option<Time>,
    /// Id of the Kafka cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kafka_cluster: Option<String>,
    /// The topics that existed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2))]
    pub existing: Vec<ExistingTopic>,
    /// Hash of what failed Jobs tried to inspect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempted: Option<String>,
    /// Number of failed Jobs.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failed_attempts: i32,
    /// Time of the last failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_at: Option<Time>,
    /// Reason of the last failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_reason: Option<String>,
    /// Message of the last failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_message: Option<String>,
}

/// A topic as it was found in Kafka.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExistingTopic {
    /// Name of the topic.
    pub name: String,
    /// Id of the topic, as Kafka's tools print it.
    pub id: String,
    /// Number of partitions.
    pub partitions: i32,
    /// Number of replicas of each partition.
    pub replicas: i32,
    /// The largest message that it takes, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_limit: Option<i64>,
    /// The settings of the topic itself, without defaults of the brokers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(transform = without_default)]
    pub config: BTreeMap<String, String>,
}

impl TopicsStatus {
    /// Whether the topics are in the cluster of this listener.
    pub fn is_in(&self, listener: &StrimziListener) -> bool {
        self.cluster == format!("{}/{}", listener.namespace, listener.cluster)
    }

    /// The resource of a topic.
    pub fn resource(&self, topic: &str) -> Option<&TopicResource> {
        self.resources.iter().find(|resource| resource.topic == topic)
    }
}

/// The id of a topic as Kafka's tools and Strimzi print it: librdkafka has `+` and `/` where they have `-` and
/// `_`.
pub fn topic_id(id: &str) -> String {
    id.replace('+', "-").replace('/', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_topics_are_equal_whoever_prints_them() {
        for (native, printed) in [("a+b/cQ", "a-b_cQ"), ("a-b_cQ", "a-b_cQ")] {
            assert_eq!(topic_id(native), printed);
        }
    }
}

//! Which KafkaTopic a topic has, and whose it is. Only who may write in the namespace of Kafka can forge its labels.

use std::sync::Arc;

use kube::ResourceExt;
use userpipeline_api::{ExistingTopic, names};

use crate::{
    pipeline::model::{Owner, Problem, StrimziTopics, labels},
    strimzi::{KafkaTopic, Objects},
};

/// The KafkaTopic of a topic.
#[derive(Clone, Debug)]
pub enum Slot {
    Missing,
    Own(Arc<KafkaTopic>),
    /// Of an earlier pipeline with the same name.
    Inherited(Arc<KafkaTopic>),
}

impl Slot {
    /// The slot of `topic`; an error where somebody else declares it. `observed` has all KafkaTopics with its name or its topic.
    pub fn of(topic: &str, declared: &StrimziTopics, owner: &Owner, observed: &Objects<KafkaTopic>) -> Result<Self, Problem> {
        let name = names::kafka_topic(topic);
        let cluster = &declared.cluster;
        let is_of_cluster = |live: &KafkaTopic| live.labels().get(labels::STRIMZI_CLUSTER) == Some(&cluster.name);
        let Some(live) = observed.by_name.get(&name) else {
            // Those without the label are ignored by Strimzi.
            let has_topic = |(name, live): &(&String, &Arc<KafkaTopic>)| live.spec.topic(name) == topic && is_of_cluster(live);
            return match observed.by_name.iter().find(has_topic) {
                None => Ok(Self::Missing),
                Some((other, _)) => Err(not_ours(topic, &format!("{}/{other}", cluster.namespace))),
            };
        };
        let label = |key: &str| live.labels().get(key).map(String::as_str);
        let is_of_pipeline =
            label(labels::PIPELINE) == Some(&owner.id.name) && label(labels::PIPELINE_NAMESPACE) == Some(&owner.id.namespace);
        if !is_of_pipeline {
            return Err(not_ours(topic, &format!("{}/{name}", cluster.namespace)));
        }
        if label(labels::STRIMZI_CLUSTER).is_some_and(|other| other != cluster.name) {
            let message = format!(
                "KafkaTopic {}/{name} belongs to Kafka cluster {}: choose another topic in spec.kafka.topic.name, or delete the KafkaTopic",
                cluster.namespace,
                label(labels::STRIMZI_CLUSTER).unwrap_or_default()
            );
            return Err((NOT_OURS.to_owned(), message));
        }
        Ok(if label(labels::PIPELINE_UID) == Some(&owner.uid) {
            Self::Own(live.clone())
        } else {
            Self::Inherited(live.clone())
        })
    }

    pub fn live(&self) -> Option<&Arc<KafkaTopic>> {
        match self {
            Self::Missing => None,
            Self::Own(live) | Self::Inherited(live) => Some(live),
        }
    }

    pub const fn is_missing(&self) -> bool {
        matches!(self, Self::Missing)
    }

    /// How the topic was found, as the KafkaTopic says. One of an earlier pipeline is adopted as it is.
    pub fn existing(&self) -> Option<ExistingTopic> {
        let live = self.live()?;
        let recorded = live
            .annotations()
            .get(labels::EXISTING_TOPIC)
            .and_then(|text| serde_json::from_str(text).ok());
        match self {
            Self::Inherited(live) => recorded.or_else(|| Some(declared_by(live))),
            _ => recorded,
        }
    }

    /// Whether the pipeline did not create the topic.
    pub fn is_adopted(&self) -> bool {
        match self {
            Self::Missing => false,
            Self::Own(live) => live.annotations().contains_key(labels::ADOPTED),
            Self::Inherited(_) => true,
        }
    }
}

fn declared_by(live: &KafkaTopic) -> ExistingTopic {
    let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    ExistingTopic {
        name: live.spec.topic(&live.name_any()).to_owned(),
        id: live.status.as_ref().and_then(|status| status.topic_id.clone()).unwrap_or_default(),
        partitions: live.spec.partitions.unwrap_or(1),
        replicas: live.spec.replicas.unwrap_or(1),
        message_limit: None,
        config: live.spec.config.iter().map(|(key, value)| (key.clone(), text(value))).collect(),
    }
}

const NOT_OURS: &str = "NotOurs";

fn not_ours(topic: &str, resource: &str) -> Problem {
    let message = format!(
        "KafkaTopic {resource} declares topic `{topic}` and is not of this UserPipeline, so it is not changed: set spec.kafka.topic.management to None to \
         use the topic as it is, choose another topic, or delete the KafkaTopic with the annotation strimzi.io/managed: \"false\", which keeps the \
         topic, and set spec.kafka.topic.adopt: true"
    );
    (NOT_OURS.to_owned(), message)
}

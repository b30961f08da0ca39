//! The topics of a pipeline that Strimzi manages, and the KafkaTopics that are to declare them.

use std::time::Duration;

use serde::Serialize;
use userpipeline_api::{ExistingTopic, ResolvedPipeline, Topic, TopicManagement, names};

use crate::strimzi::{ClusterId, KafkaTopicSpec};

/// What a pipeline declares about its topics.
#[derive(Clone, Debug, PartialEq)]
pub struct StrimziTopics {
    pub cluster: ClusterId,
    pub topic: String,
    pub dead_letter_topic: String,
    pub settings: Topic,
    /// Runs write to the topic, and need room for large records.
    pub has_runs: bool,
    pub dead_letter_retention: Duration,
    /// The replicas are the default of a connection, which is for new topics only.
    pub has_default_replicas: bool,
}

impl StrimziTopics {
    /// None where the topics are managed otherwise.
    pub fn of(pipeline: &ResolvedPipeline, has_default_replicas: bool) -> Option<Self> {
        let spec = &pipeline.spec;
        let listener = pipeline.strimzi.as_ref()?;
        let settings = Some(&spec.kafka.topic).filter(|topic| topic.management == TopicManagement::Strimzi)?;
        let topic = settings.name.clone().unwrap_or_else(|| names::topic(&pipeline.id));
        let dead_letter_topic = spec.dead_letter.topic.clone();
        Some(Self {
            cluster: ClusterId::of(listener),
            dead_letter_topic: dead_letter_topic.unwrap_or_else(|| names::dead_letter_topic(&topic)),
            topic,
            settings: settings.clone(),
            has_runs: spec.source.topic.is_none(),
            dead_letter_retention: spec.dead_letter.retention.into(),
            has_default_replicas,
        })
    }

    /// Both topics.
    pub fn names(&self) -> [&str; 2] {
        [&self.topic, &self.dead_letter_topic]
    }
}

/// A KafkaTopic that is to exist.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlannedTopic {
    /// Of the resource.
    pub name: String,
    pub spec: KafkaTopicSpec,
    /// How the topic was found, if it existed before its KafkaTopic.
    pub existing: Option<ExistingTopic>,
    /// Whether the pipeline did not create the topic, so that it is not deleted with the pipeline.
    pub is_adopted: bool,
}

impl PlannedTopic {
    /// Of everything that is declared: a KafkaTopic with another one is outdated.
    pub fn hash(&self) -> String {
        names::hash(&serde_json::to_string(self).unwrap_or_default())
    }
}

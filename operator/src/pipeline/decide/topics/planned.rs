//! What a KafkaTopic declares: what a schema Job would set otherwise, and all settings of an adopted topic, because the Topic Operator
//! removes those that a KafkaTopic lacks.

use std::collections::BTreeMap;

use serde_json::Value;
use userpipeline_api::{ExistingTopic, MAX_MESSAGE_BYTES, names};

use crate::{
    pipeline::model::{PlannedTopic, StrimziTopics},
    strimzi::{KafkaTopic, KafkaTopicSpec},
};

/// What is known of a topic before it is planned.
#[derive(Clone, Copy, Debug, Default)]
pub struct Basis<'a> {
    /// How the topic was found.
    pub existing: Option<&'a ExistingTopic>,
    /// Whether the pipeline did not create it.
    pub is_adopted: bool,
    /// The KafkaTopic, where there is one.
    pub live: Option<&'a KafkaTopic>,
}

/// The KafkaTopics of the topic and of the dead-letter topic.
pub fn planned(declared: &StrimziTopics, topic: Basis<'_>, dead_letters: Basis<'_>) -> [PlannedTopic; 2] {
    let settings = &declared.settings;
    let is_limit_declared = settings.config.contains_key(MAX_MESSAGE_BYTES);
    let config = union(settings.settings(declared.has_runs), topic.existing, is_limit_declared);
    let limits = [
        settings.message_limit(),
        config.get(MAX_MESSAGE_BYTES).and_then(|text| text.parse().ok()).unwrap_or_default(),
        topic.existing.and_then(limit).unwrap_or_default(),
    ];
    let limit = limits.into_iter().max().unwrap_or_default();
    let dead_letter_config = settings.dead_letter_settings(limit, declared.dead_letter_retention);
    // As many as it has: nothing declares how many a dead-letter topic needs.
    let live_partitions = dead_letters.live.and_then(|live| live.spec.partitions).unwrap_or(1);
    [
        plan(declared, &declared.topic, settings.partitions, config, topic),
        plan(
            declared,
            &declared.dead_letter_topic,
            live_partitions,
            union(dead_letter_config, dead_letters.existing, false),
            dead_letters,
        ),
    ]
}

fn plan(declared: &StrimziTopics, topic: &str, partitions: i32, config: BTreeMap<String, String>, basis: Basis<'_>) -> PlannedTopic {
    let existing = basis.existing;
    let live_replicas = basis
        .live
        .and_then(|live| live.spec.replicas)
        .filter(|_| declared.has_default_replicas);
    let replicas = existing.map(|existing| existing.replicas).or(live_replicas);
    PlannedTopic {
        name: names::kafka_topic(topic),
        spec: KafkaTopicSpec {
            topic_name: Some(topic.to_owned()),
            partitions: Some(existing.map_or(partitions, |existing| existing.partitions.max(partitions))),
            replicas: Some(replicas.unwrap_or(declared.settings.replicas)),
            config: config.into_iter().map(|(key, value)| (key, Value::String(value))).collect(),
        },
        existing: existing.cloned(),
        is_adopted: basis.is_adopted,
    }
}

fn limit(existing: &ExistingTopic) -> Option<u64> {
    existing.message_limit.and_then(|limit| u64::try_from(limit).ok())
}

/// The declared settings over the existing ones. Where the limit of messages is not declared, a higher one is fine.
fn union(mut declared: BTreeMap<String, String>, existing: Option<&ExistingTopic>, is_limit_declared: bool) -> BTreeMap<String, String> {
    for value in declared.values_mut() {
        *value = value.trim().to_owned();
    }
    let Some(existing) = existing else { return declared };
    let needed = declared.get(MAX_MESSAGE_BYTES).and_then(|text| text.parse::<u64>().ok());
    if !is_limit_declared && needed.is_some() && limit(existing) >= needed {
        declared.remove(MAX_MESSAGE_BYTES);
    }
    let mut config = existing.config.clone();
    config.extend(declared);
    config
}

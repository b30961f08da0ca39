//! What the Topic Operator does with a `KafkaTopic`: decided here, done by the operator.

use std::collections::BTreeMap;

use kube::ResourceExt;
use serde_json::Value;

use crate::strimzi::{
    conditions::is_paused,
    resources::{FINALIZER, KafkaTopic, MANAGED, TopicSpec},
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn kafka_error(message: impl Into<String>) -> Self {
        Self::new("KafkaError", message)
    }

    fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }
}

/// What to do with the resource, before Kafka is asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Removes the finalizer and leaves the topic.
    Release,
    /// Deletes the topic, and then removes the finalizer.
    DeleteTopic,
    /// The finalizer has gone, or never was.
    Nothing,
    Unmanaged,
    Paused,
    Refuse(Refusal),
    Reconcile,
}

/// The topic in Kafka, with the settings that it does not share with others.
#[derive(Debug)]
pub(super) struct Existing {
    pub(super) partitions: i32,
    pub(super) replicas: i32,
    /// Effective values, the brokers' defaults included.
    pub(super) config: BTreeMap<String, String>,
    /// The names of those that were set for this topic.
    pub(super) dynamic: Vec<String>,
}

/// Changes of a topic that exists.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// All settings that the topic will have.
    pub(super) config: Option<BTreeMap<String, String>>,
    pub(super) partitions: Option<i32>,
    /// What cannot be done. The other changes are made nevertheless.
    pub(super) refused: Option<Refusal>,
}

pub(super) fn topic_name(topic: &KafkaTopic) -> String {
    topic.spec.topic_name.clone().unwrap_or_else(|| topic.name_any())
}

pub(super) fn is_managed(topic: &KafkaTopic) -> bool {
    topic.annotations().get(MANAGED).is_none_or(|value| value != "false")
}

fn is_ready(topic: &KafkaTopic) -> bool {
    let conditions = topic.status.iter().flat_map(|status| &status.conditions);
    { conditions }.any(|condition| condition.kind == "Ready" && condition.status == "True")
}

/// `others`: the further resources of the cluster in this namespace.
pub(super) fn decide(topic: &KafkaTopic, others: &[KafkaTopic], prefix: &str) -> Decision {
    let name = topic_name(topic);
    let recorded = topic.status.as_ref().and_then(|status| status.topic_name.as_ref());
    let renamed = recorded.is_some_and(|recorded| *recorded != name);
    let not_supported = |message: &str| Decision::Refuse(Refusal::new("NotSupported", message));
    if topic.metadata.deletion_timestamp.is_some() {
        return if !topic.finalizers().iter().any(|name| name == FINALIZER) {
            Decision::Nothing
        } else if !is_managed(topic) {
            Decision::Release
        } else if renamed {
            not_supported("Changing spec.topicName is not supported")
        } else {
            Decision::DeleteTopic
        };
    }
    if !is_managed(topic) {
        return Decision::Unmanaged;
    }
    if renamed {
        return not_supported("Changing spec.topicName is not supported");
    }
    if !name.starts_with(prefix) {
        let message = format!("the stand-in manages only topics whose name begins with {prefix}, not {name}");
        return Decision::Refuse(Refusal::new("OutsideOfTheStory", message));
    }
    if let Some(owner) = owner(topic, others, &name) {
        let (namespace, name) = (owner.namespace().unwrap_or_default(), owner.name_any());
        let message = format!("Managed by Ref{{namespace='{namespace}', name='{name}'}}");
        return Decision::Refuse(Refusal::new("ResourceConflict", message));
    }
    if is_paused(topic) {
        return Decision::Paused;
    }
    Decision::Reconcile
}

/// The resource that has the topic instead of this one: the oldest, and of several of the same second the one that is ready.
fn owner<'a>(topic: &'a KafkaTopic, others: &'a [KafkaTopic], name: &str) -> Option<&'a KafkaTopic> {
    let created = |topic: &KafkaTopic| topic.creation_timestamp().map(|time| time.0);
    let rivals: Vec<&KafkaTopic> = others
        .iter()
        .filter(|other| is_managed(other) && topic_name(other) == name)
        .collect();
    let oldest = rivals.iter().copied().min_by_key(|rival| created(rival))?;
    if created(topic) < created(oldest) || (created(topic) == created(oldest) && is_ready(topic)) {
        None
    } else {
        Some(oldest)
    }
}

/// A setting as Kafka writes it.
pub(super) fn settings(spec: &TopicSpec) -> BTreeMap<String, String> {
    fn text(value: &Value) -> String {
        match value {
            Value::String(text) => text.clone(),
            Value::Array(values) => values.iter().map(text).collect::<Vec<_>>().join(","),
            other => other.to_string(),
        }
    }
    spec.config.iter().map(|(name, value)| (name.clone(), text(value))).collect()
}

pub(super) fn changes(spec: &TopicSpec, existing: &Existing) -> Changes {
    let desired = settings(spec);
    let differs = |name: &String, value: &String| existing.config.get(name) != Some(value);
    let set = |name: &String| existing.dynamic.contains(name);
    let any = desired.iter().any(|(name, value)| differs(name, value)) || existing.dynamic.iter().any(|name| !desired.contains_key(name));
    // A default that nobody had set stays a default.
    let config: BTreeMap<String, String> = desired
        .into_iter()
        .filter(|(name, value)| differs(name, value) || set(name))
        .collect();
    let mut changes = Changes {
        config: any.then_some(config),
        ..Changes::default()
    };
    match spec.partitions {
        Some(partitions) if partitions > existing.partitions => changes.partitions = Some(partitions),
        Some(partitions) if partitions < existing.partitions => {
            changes.refused = Some(Refusal::new("NotSupported", "Decreasing partitions not supported"));
        }
        _ => {}
    }
    if changes.refused.is_none() && spec.replicas.is_some_and(|replicas| replicas != existing.replicas) {
        let partitions: Vec<i32> = (0..existing.partitions).collect();
        let message = format!("Replication factor change not supported, but required for partitions {partitions:?}");
        changes.refused = Some(Refusal::new("NotSupported", message));
    }
    changes
}

#[cfg(test)]
#[path = "decision_tests.rs"]
mod tests;

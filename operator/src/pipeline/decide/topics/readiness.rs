//! How far the Topic Operator is with a KafkaTopic.

use kube::ResourceExt;

use crate::{
    pipeline::model::{PlannedTopic, Problem, labels},
    strimzi::{ClusterId, KafkaTopic, StrimziCondition},
};

/// The Topic Operator has not processed a KafkaTopic yet.
pub const WAITING_FOR_STRIMZI: &str = "WaitingForTopicOperator";

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// The topic is as declared.
    Ready {
        id: Option<String>,
    },
    /// The Topic Operator does not touch the topic, so only Kafka says what it is like.
    Unverified(Problem),
    Waiting(Problem),
    Failed(Problem),
}

/// Of the live object, where `planned` is what is applied.
pub fn readiness(live: &KafkaTopic, planned: &PlannedTopic, cluster: &ClusterId) -> Readiness {
    let name = format!("KafkaTopic {}/{}", cluster.namespace, live.name_any());
    if live.metadata.deletion_timestamp.is_some() {
        return Readiness::Waiting(("BeingDeleted".to_owned(), format!("{name} is being deleted")));
    }
    let status = live.status.clone().unwrap_or_default();
    let true_condition = |type_: &str| status.conditions.iter().find(|c| c.type_ == type_ && c.status == "True");
    for (type_, why) in [
        ("ReconciliationPaused", "paused by the annotation strimzi.io/pause-reconciliation"),
        ("Unmanaged", "not managed because of the annotation strimzi.io/managed: \"false\""),
    ] {
        if true_condition(type_).is_some() {
            return Readiness::Unverified((type_.to_owned(), format!("{name} is {why}")));
        }
    }
    let is_applied = live.annotations().get(labels::DESIRED_HASH) == Some(&planned.hash());
    if !is_applied || status.observed_generation != live.metadata.generation {
        let message = format!(
            "{name} waits for the Topic Operator of Kafka cluster {cluster} (Deployment {}-entity-operator in namespace {})",
            cluster.name, cluster.namespace
        );
        return Readiness::Waiting((WAITING_FOR_STRIMZI.to_owned(), message));
    }
    if true_condition("Ready").is_some() {
        return Readiness::Ready { id: status.topic_id };
    }
    match status.conditions.iter().find(|c| c.type_ == "Ready") {
        Some(refused) => Readiness::Failed(reported(&name, refused)),
        None => Readiness::Waiting((WAITING_FOR_STRIMZI.to_owned(), format!("{name} has no condition Ready yet"))),
    }
}

/// Strimzi's own reason and message.
fn reported(name: &str, condition: &StrimziCondition) -> Problem {
    let message = condition.message.as_deref().unwrap_or("Strimzi gives no message");
    match condition.reason.as_deref() {
        Some("ResourceConflict") => (
            "Conflict".to_owned(),
            format!("{name}: another KafkaTopic has the same topic (ResourceConflict: {message}): delete one of them"),
        ),
        reason => (reason.unwrap_or("TopicNotReady").to_owned(), format!("{name}: {message}")),
    }
}

//! How far Strimzi is with both KafkaTopics, and which topics these are.

use kube::ResourceExt;
use userpipeline_api::{ACCEPT_TOPIC, TopicResource, TopicsStatus, report::TOPIC_REPLACED};

use super::{
    finding::Finding,
    input::TopicsInput,
    readiness::{Readiness, WAITING_FOR_STRIMZI, readiness},
    slot::Slot,
};
use crate::pipeline::model::{PlannedTopic, Problem, StrimziTopics};

pub struct Assessment {
    pub resources: Vec<TopicResource>,
    pub finding: Finding,
}

pub fn assess(input: &TopicsInput<'_>, recorded: &TopicsStatus, slots: &[Slot; 2], planned: &[PlannedTopic; 2]) -> Assessment {
    let (mut resources, mut findings) = (Vec::new(), Vec::new());
    for ((topic, slot), planned) in input.declared.names().into_iter().zip(slots).zip(planned) {
        let before = recorded.resource(topic);
        let Some(live) = slot.live() else {
            // With the id, so that a topic that is created again is noticed.
            resources.extend(before.cloned());
            let message = format!("KafkaTopic {}/{} is created now", input.declared.cluster.namespace, planned.name);
            findings.push(Finding::Waiting((WAITING_FOR_STRIMZI.to_owned(), message)));
            continue;
        };
        let is_data = topic == input.declared.topic;
        let before = before.and_then(|before| before.id.clone());
        let (finding, id) = identified(
            input,
            topic,
            is_data,
            before.as_deref(),
            readiness(live, planned, &input.declared.cluster),
        );
        resources.push(TopicResource {
            topic: topic.to_owned(),
            name: live.name_any(),
            uid: live.uid().unwrap_or_default(),
            id: id.or(before),
            adopted: planned.is_adopted,
        });
        findings.push(finding);
    }
    let rank = |finding: &Finding| match finding {
        Finding::Failed(_) => 0,
        Finding::Waiting(_) => 1,
        Finding::Unverified(_) => 2,
        _ => 3,
    };
    // The first of equal ones: that of the topic.
    findings.sort_by_key(rank);
    let finding = match findings.swap_remove(0) {
        Finding::Ready(_) => Finding::Ready(ready(input.declared, planned, &resources)),
        other => other,
    };
    Assessment { resources, finding }
}

fn ready(declared: &StrimziTopics, [topic, dead_letters]: &[PlannedTopic; 2], resources: &[TopicResource]) -> String {
    let id = resources
        .iter()
        .find(|resource| resource.topic == declared.topic)
        .and_then(|resource| resource.id.as_deref());
    format!(
        "KafkaTopics {} and {} in namespace {} are Ready: the topic exists with {} partitions{}",
        topic.name,
        dead_letters.name,
        declared.cluster.namespace,
        topic.spec.partitions.unwrap_or_default(),
        id.map_or_else(String::new, |id| format!(" and the id {id}"))
    )
}

/// The finding of one topic, and its id as it is to be recorded.
fn identified(
    input: &TopicsInput<'_>,
    topic: &str,
    is_data: bool,
    before: Option<&str>,
    readiness: Readiness,
) -> (Finding, Option<String>) {
    let owned = |id: &str| Some(id.to_owned());
    match readiness {
        Readiness::Waiting(problem) => (Finding::Waiting(problem), None),
        Readiness::Failed(problem) => (Finding::Failed(problem), None),
        Readiness::Unverified(problem) if is_data => {
            // The last accepted one; only Kafka knows whether it is there, so the schema Job verifies it.
            let accepted = input
                .accepted
                .last()
                .filter(|_| before.is_some_and(|before| !input.accepted.iter().any(|id| id == before)));
            let id = accepted.map(String::as_str).or(before).or(input.verified_id);
            (Finding::Unverified(problem), id.and_then(owned))
        }
        Readiness::Unverified(problem) => (Finding::Unverified(problem), None),
        Readiness::Ready { id: None } => (Finding::Ready(String::new()), None),
        Readiness::Ready { id: Some(id) } => match before {
            _ if !is_data => (Finding::Ready(String::new()), Some(id)),
            Some(before) if before == id => (Finding::Ready(String::new()), Some(id)),
            Some(before) if !input.accepted.contains(&id) => (Finding::Failed(replaced(topic, before, &id)), owned(before)),
            // Recorded first: the schema Job and the workers are made for this id.
            _ => {
                let message = format!("the id {id} of topic `{topic}` is recorded");
                (Finding::Waiting((WAITING_FOR_STRIMZI.to_owned(), message)), Some(id))
            }
        },
    }
}

fn replaced(topic: &str, before: &str, found: &str) -> Problem {
    let message = format!(
        "topic `{topic}` was deleted in Kafka and created again without its messages: its id is {found} instead of {before}. Messages that were not stored \
         yet are lost; the workers wait. To continue with the new topic, annotate the pipeline: kubectl annotate userpipeline NAME \
         {ACCEPT_TOPIC}={found} --overwrite"
    );
    (TOPIC_REPLACED.to_owned(), message)
}

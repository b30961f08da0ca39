//! `TopicReady`. Pure.

use userpipeline_api::{
    TopicsStatus, UserPipeline, UserPipelineStatus, condition,
    report::{TOPIC_MISSING, TOPIC_REPLACED},
};

use super::verdict::Verdict;
use crate::pipeline::{apply::Applied, decide::topics::Finding, observe::Observed};

pub fn topic_ready(pipeline: &UserPipeline, applied: &Applied, observed: &Observed, before: &UserPipelineStatus) -> Verdict {
    let topics = &applied.decisions.topics;
    let by_strimzi = match (&applied.topics, &topics.finding) {
        (Err(error), _) => Some(Verdict::failed(error)),
        (Ok(()), Finding::Unknown) => Some(unchanged(pipeline, before, "the KafkaTopics are not listed yet")),
        (Ok(()), Finding::Waiting((reason, message)) | Finding::Failed((reason, message))) => Some(Verdict::no(reason, message)),
        (Ok(()), Finding::Ready(message)) => Some(Verdict::yes("TopicExists", message)),
        (Ok(()), Finding::Unverified((reason, message))) if applied.decisions.schema.is_applied() => Some(Verdict::yes(
            reason,
            &format!("{message}; the schema Job found the topic as the spec declares it"),
        )),
        (Ok(()), Finding::NotManaged | Finding::Unverified(_)) => None,
    };
    // No event reports that a topic was deleted or replaced, but the workers do.
    let is_about_topic = |reason: &str| reason == TOPIC_MISSING || reason == TOPIC_REPLACED;
    let report = observed.reports.values().find(|report| is_about_topic(&report.reason));
    match (by_strimzi, report) {
        (Some(refused), _) if refused.is_false() => refused,
        (_, Some(report)) => Verdict::no(&report.reason, &report.message),
        (Some(verdict), None) => verdict,
        (None, None) => by_schema_job(pipeline, applied, before),
    }
}

fn by_schema_job(pipeline: &UserPipeline, applied: &Applied, before: &UserPipelineStatus) -> Verdict {
    let status = &applied.decisions.schema.status;
    if applied.decisions.schema.is_applied() {
        let partitions = status.partitions.map_or(String::new(), |n| format!(" with {n} partitions"));
        let retained = retained(applied.decisions.topics.status.as_ref());
        return Verdict::yes("TopicExists", &format!("the topic exists{partitions}{retained}"));
    }
    match applied.decisions.schema.topic_ready {
        Some(true) => Verdict::yes("TopicExists", "the topic exists"),
        Some(false) => Verdict::no(
            status.failure_reason.as_deref().unwrap_or_default(),
            status.failure_message.as_deref().unwrap_or_default(),
        )
        .or_reason("TopicNotReady"),
        None => unchanged(pipeline, before, "no schema Job has reported on the topic yet"),
    }
}

/// What was reported for this generation stays until something else is.
fn unchanged(pipeline: &UserPipeline, before: &UserPipelineStatus, otherwise: &str) -> Verdict {
    let is_current = |generation: Option<i64>| generation.is_some() && generation == pipeline.metadata.generation;
    let mut conditions = before.conditions.iter();
    conditions
        .find(|c| c.type_ == condition::TOPIC_READY && is_current(c.observed_generation))
        .map_or_else(|| Verdict::unknown("WaitingForSchema", otherwise), Verdict::from)
}

/// What stays where the spec no longer manages topics through Strimzi.
fn retained(topics: Option<&TopicsStatus>) -> String {
    let Some(topics) = topics.filter(|topics| topics.retained && !topics.resources.is_empty()) else {
        return String::new();
    };
    let names: Vec<&str> = topics.resources.iter().map(|resource| resource.name.as_str()).collect();
    format!(
        "; the KafkaTopics {} of Kafka cluster {} stay, and the Topic Operator keeps their settings: to end that, annotate them with \
         strimzi.io/managed=false and delete them, which keeps the topics",
        names.join(" and "),
        topics.cluster
    )
}

//! The Events of a changed status: each is published when the status changes, and not again. Pure.

use userpipeline_api::{DeletionStatus, UserPipelineStatus, condition, report::TOPIC_REPLACED};

use super::{event_reason::Reason, run_events::run_events};
use crate::pipeline::model::reasons::{CONNECTION_INVALID, CONNECTION_MISSING, IN_PROGRESS, NOT_APPLIED, PAUSED, TOPIC_IN_PROGRESS};

/// The Events of the change from one status to the next.
pub fn events(before: &UserPipelineStatus, after: &UserPipelineStatus) -> Vec<(Reason, String)> {
    let mut events = Vec::new();
    let types: [(&str, ReasonOf); 6] = [
        (condition::READY, ready),
        (condition::SCHEDULE_READY, schedule_ready),
        (condition::DATA_FRESH, data_fresh),
        (condition::WORKERS_READY, workers_ready),
        (condition::SUSPENDED, suspended),
        (condition::MODIFIED, modified),
    ];
    for (type_, reason_of) in types {
        let (old, Some(new)) = (state(before, type_), state(after, type_)) else {
            continue;
        };
        if old.as_ref() != Some(&new)
            && let Some(reason) = reason_of(old.as_ref(), &new)
            && !events.contains(&(reason, new.message.clone()))
        {
            events.push((reason, new.message));
        }
    }
    events.extend(topic(before, after).filter(|event| !events.contains(event)));
    events.extend(schema(before, after));
    events.extend(deletion(before, after));
    events.extend(run_events(before, after));
    events
}

/// The reason to publish when a condition changes from one state to another.
type ReasonOf = fn(Option<&State>, &State) -> Option<Reason>;

#[derive(PartialEq)]
struct State {
    status: String,
    reason: String,
    message: String,
}

fn state(status: &UserPipelineStatus, type_: &str) -> Option<State> {
    let condition = status.conditions.iter().find(|c| c.type_ == type_)?;
    Some(State {
        status: condition.status.clone(),
        reason: condition.reason.clone(),
        message: condition.message.clone(),
    })
}

fn ready(old: Option<&State>, new: &State) -> Option<Reason> {
    match new.reason.as_str() {
        "InvalidSpec" => Some(Reason::InvalidSpec),
        "Conflict" => Some(Reason::Conflict),
        CONNECTION_MISSING => Some(Reason::ConnectionMissing),
        CONNECTION_INVALID => Some(Reason::ConnectionInvalid),
        "Unreadable" => Some(Reason::Unreadable),
        reason if NOT_APPLIED.contains(&reason) => Some(Reason::ApplyFailed),
        _ if new.status == "True" && old.is_none_or(|old| old.status != "True") => Some(Reason::Ready),
        _ => None,
    }
}

fn schedule_ready(old: Option<&State>, new: &State) -> Option<Reason> {
    if new.reason == PAUSED && old.is_none_or(|old| old.reason != PAUSED) {
        return Some(Reason::Paused);
    }
    NOT_APPLIED.contains(&new.reason.as_str()).then_some(Reason::ApplyFailed)
}

fn data_fresh(old: Option<&State>, new: &State) -> Option<Reason> {
    match (old.map(|old| old.status.as_str()), new.status.as_str()) {
        (Some("True"), "True") | (Some("False"), "False") => None,
        (_, "True") => Some(Reason::DataFresh),
        (_, "False") => Some(Reason::DataStale),
        _ => None,
    }
}

fn workers_ready(old: Option<&State>, new: &State) -> Option<Reason> {
    let reason = new.reason.as_str();
    if NOT_APPLIED.contains(&reason) {
        return Some(Reason::ApplyFailed);
    }
    let is_new = old.is_none_or(|old| old.reason != reason);
    (new.status == "False" && is_new && !IN_PROGRESS.contains(&reason)).then_some(Reason::WorkersUnready)
}

fn suspended(old: Option<&State>, new: &State) -> Option<Reason> {
    match (old.map(|old| old.status.as_str()), new.status.as_str()) {
        (Some("True"), "True") => None,
        (_, "True") => Some(Reason::Suspended),
        (Some("True"), "False") if new.reason == "NotSuspended" => Some(Reason::Resumed),
        _ => None,
    }
}

/// Each time that other fields are affected.
fn modified(_: Option<&State>, new: &State) -> Option<Reason> {
    match new.reason.as_str() {
        "Overridden" => Some(Reason::Overridden),
        "ForeignFields" => Some(Reason::ForeignFields),
        "ScaledByOthers" => Some(Reason::ScaledByOthers),
        _ => None,
    }
}

/// Of topics that Strimzi manages. A schema Job that finds something wrong with a topic has failed, which is an Event of its own.
fn topic(before: &UserPipelineStatus, after: &UserPipelineStatus) -> Option<(Reason, String)> {
    after.topics.as_ref().filter(|topics| !topics.retained)?;
    let new = state(after, condition::TOPIC_READY).filter(|new| new.status == "False")?;
    let old = state(before, condition::TOPIC_READY);
    let is_new = old.is_none_or(|old| (&old.status, &old.reason) != (&new.status, &new.reason));
    if !is_new || TOPIC_IN_PROGRESS.contains(&new.reason.as_str()) {
        return None;
    }
    Some(match new.reason.as_str() {
        TOPIC_REPLACED => (Reason::TopicReplaced, new.message),
        reason if NOT_APPLIED.contains(&reason) => (Reason::ApplyFailed, new.message),
        reason => (Reason::TopicUnready, format!("{reason}: {}", new.message)),
    })
}

fn schema(before: &UserPipelineStatus, after: &UserPipelineStatus) -> Vec<(Reason, String)> {
    let (old, new) = (before.schema.clone().unwrap_or_default(), after.schema.clone().unwrap_or_default());
    let mut events = Vec::new();
    if new.applied_at.is_some() && (&new.applied_hash, &new.applied_at) != (&old.applied_hash, &old.applied_at) {
        let topic = after.topic.as_deref().unwrap_or_default();
        events.push((
            Reason::SchemaApplied,
            format!("topic {topic}, its subject and the tables match the spec"),
        ));
    }
    if new.failed_attempts > 0 && (&new.attempted_hash, new.failed_attempts) != (&old.attempted_hash, old.failed_attempts) {
        let (reason, message) = (new.failure_reason.unwrap_or_default(), new.failure_message.unwrap_or_default());
        events.push((Reason::SchemaFailed, format!("{reason}: {message}")));
    }
    events
}

fn deletion(before: &UserPipelineStatus, after: &UserPipelineStatus) -> Option<(Reason, String)> {
    let (old, new) = (before.deletion.clone().unwrap_or_default(), after.deletion.clone()?);
    if let Some(deleted) = deleted(&new).filter(|_| deleted(&old).is_none()) {
        return Some((Reason::DataDeleted, deleted));
    }
    let message = new.message.unwrap_or_default();
    let failed = new.failed_attempts > old.failed_attempts;
    failed.then(|| {
        (
            Reason::DeletionFailed,
            format!("{}: {message}", new.failure_reason.unwrap_or_default()),
        )
    })
}

/// What was deleted and what was not, once that is complete. Notes are cut at their end, which may list much that was kept.
fn deleted(status: &DeletionStatus) -> Option<String> {
    let message = status.message.clone().unwrap_or_default();
    if status.kafka_topics.is_empty() {
        return status.done_at.is_some().then_some(message);
    }
    status.topics_deleted_at.as_ref()?;
    let topics = format!("deleted KafkaTopics: {}", status.kafka_topics.join(", "));
    let others = Some(message).filter(|message| !message.is_empty());
    Some(std::iter::once(topics).chain(others).collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
    use userpipeline_api::{Run, RunOutcome, SchemaStatus, TopicsStatus};

    use super::*;

    fn status(conditions: &[(&str, &str, &str)]) -> UserPipelineStatus {
        let conditions = conditions.iter().map(|&(type_, status, reason)| Condition {
            type_: type_.into(),
            status: status.into(),
            reason: reason.into(),
            message: "m".into(),
            last_transition_time: Time(jiff::Timestamp::UNIX_EPOCH),
            observed_generation: Some(1),
        });
        UserPipelineStatus {
            conditions: conditions.collect(),
            ..UserPipelineStatus::default()
        }
    }

    fn reasons(before: &UserPipelineStatus, after: &UserPipelineStatus) -> Vec<Reason> {
        events(before, after).into_iter().map(|(reason, _)| reason).collect()
    }

    #[test]
    fn an_event_is_published_once_for_a_change() {
        let table = vec![
            (status(&[]), status(&[("Ready", "True", "Ready")]), vec![Reason::Ready]),
            (
                status(&[("Ready", "False", "Applying")]),
                status(&[("Ready", "False", "InvalidSpec")]),
                vec![Reason::InvalidSpec],
            ),
            (
                status(&[("WorkersReady", "True", "Ready")]),
                status(&[("WorkersReady", "False", "CredentialsMissing")]),
                vec![Reason::WorkersUnready],
            ),
            (
                status(&[("WorkersReady", "True", "Ready")]),
                status(&[("WorkersReady", "False", "RollingOut")]),
                vec![],
            ),
            (
                status(&[("Suspended", "False", "Draining")]),
                status(&[("Suspended", "True", "Suspended")]),
                vec![Reason::Suspended],
            ),
            (
                status(&[("Suspended", "True", "Suspended")]),
                status(&[("Suspended", "False", "NotSuspended")]),
                vec![Reason::Resumed],
            ),
            (status(&[]), status(&[("Suspended", "False", "NotSuspended")]), vec![]),
            (
                status(&[("Modified", "False", "NotModified")]),
                status(&[("Modified", "True", "Overridden")]),
                vec![Reason::Overridden],
            ),
            (
                status(&[("Ready", "True", "Ready")]),
                status(&[("Ready", "False", "NotOurs"), ("WorkersReady", "False", "NotOurs")]),
                vec![Reason::ApplyFailed],
            ),
        ];
        for (before, after, expected) in table {
            assert_eq!(reasons(&before, &after), expected, "{before:?} {after:?}");
            assert_eq!(reasons(&after, &after), []);
        }
    }

    #[test]
    fn what_strimzi_refuses_and_replaced_topics_are_published_once() {
        let of = |reason: &str| UserPipelineStatus {
            topics: Some(TopicsStatus::default()),
            ..status(&[("TopicReady", if reason == "TopicExists" { "True" } else { "False" }, reason)])
        };
        for (before, after, expected) in [
            ("TopicExists", "KafkaError", vec![Reason::TopicUnready]),
            ("KafkaError", "KafkaError", vec![]),
            ("Inspecting", "WaitingForTopicOperator", vec![]),
            ("TopicExists", "TopicReplaced", vec![Reason::TopicReplaced]),
            ("TopicReplaced", "TopicExists", vec![]),
        ] {
            assert_eq!(reasons(&of(before), &of(after)), expected, "{before} {after}");
        }
        let direct = status(&[("TopicReady", "False", "TopicMismatch")]);
        assert_eq!(
            reasons(&status(&[]), &direct),
            [],
            "that a schema Job failed is an Event of its own"
        );
    }

    #[test]
    fn failed_schema_jobs_and_runs_are_published() {
        let before = UserPipelineStatus::default();
        let after = UserPipelineStatus {
            schema: Some(SchemaStatus {
                attempted_hash: Some("a".into()),
                failed_attempts: 1,
                ..SchemaStatus::default()
            }),
            runs: vec![Run {
                job: "users-ingest-1".into(),
                outcome: RunOutcome::Failed,
                ..Run::default()
            }],
            ..UserPipelineStatus::default()
        };
        assert_eq!(reasons(&before, &after), [Reason::SchemaFailed, Reason::RunFailed]);
    }

    #[test]
    fn what_was_deleted_is_published_once_when_kafka_topics_are_gone_too() {
        let time = || Some(Time(jiff::Timestamp::UNIX_EPOCH));
        let of = |done: bool, topics: &[&str], topics_gone: bool| UserPipelineStatus {
            deletion: Some(DeletionStatus {
                done_at: time().filter(|_| done),
                message: done.then(|| "deleted: table a".to_owned()),
                kafka_topics: topics.iter().map(|&name| name.to_owned()).collect(),
                topics_deleted_at: time().filter(|_| topics_gone),
                ..DeletionStatus::default()
            }),
            ..UserPipelineStatus::default()
        };
        let table = vec![
            (of(false, &[], false), of(true, &[], false), Some("deleted: table a")),
            (of(true, &[], false), of(true, &[], false), None),
            (of(false, &[], false), of(true, &["t", "d"], false), None),
            (
                of(true, &["t", "d"], false),
                of(true, &["t", "d"], true),
                Some("deleted KafkaTopics: t, d; deleted: table a"),
            ),
            (of(false, &["t"], false), of(false, &["t"], true), Some("deleted KafkaTopics: t")),
            (of(true, &["t", "d"], true), of(true, &["t", "d"], true), None),
        ];
        for (before, after, expected) in table {
            let expected: Vec<_> = expected.map(|note| (Reason::DataDeleted, note.to_owned())).into_iter().collect();
            assert_eq!(events(&before, &after), expected);
        }
    }
}

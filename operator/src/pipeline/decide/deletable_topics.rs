//! Which KafkaTopics are deleted with a pipeline? Pure. Those that it created and its spec names, as with other objects.

use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use userpipeline_api::{Names, TopicsStatus};

use crate::{
    pipeline::model::{Problem, elapsed, labels},
    strimzi::{KafkaTopic, Objects, Unavailable},
};

/// After this time, it is said what does not respond.
const PATIENCE: Duration = Duration::from_secs(300);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DeletableTopics {
    /// There are none (any more).
    #[default]
    None,
    /// It cannot be known whether there are any.
    Unknown(Problem),
    Some(Vec<DeletableTopic>),
}

/// A KafkaTopic that is to be deleted, or is being deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletableTopic {
    pub name: String,
    pub deleted_at: Option<Timestamp>,
    /// What Strimzi reports.
    reported: Option<String>,
}

impl DeletableTopics {
    /// `names` are those of the spec, `uid` is that of the pipeline, and `shared` are names that other pipelines use.
    pub fn of(
        recorded: Option<&TopicsStatus>,
        names: &Names,
        uid: &str,
        shared: &[String],
        observe: impl FnOnce(&TopicsStatus) -> Result<Objects<KafkaTopic>, Unavailable>,
    ) -> Self {
        let Some(recorded) = recorded.filter(|recorded| !recorded.retained) else {
            return Self::None;
        };
        let observed = match observe(recorded) {
            Ok(observed) => observed,
            Err(why) => return Self::Unknown((why.reason().to_owned(), format!("the KafkaTopics cannot be deleted: {why}"))),
        };
        let is_deletable = |name: &str, live: &KafkaTopic| {
            let topic = Some(live.spec.topic(name).to_owned());
            let is_named = topic == names.topic || topic == names.dead_letter_topic;
            let is_own = live.labels().get(labels::PIPELINE_UID).is_some_and(|label| label == uid);
            let is_shared = topic.is_some_and(|topic| shared.contains(&format!("topic {topic}")));
            is_named && is_own && !is_shared && !live.annotations().contains_key(labels::ADOPTED)
        };
        let deletable = observed.by_name.iter().filter(|(name, live)| is_deletable(name, live));
        let topics: Vec<DeletableTopic> = deletable.map(|(name, live)| DeletableTopic::of(name, live)).collect();
        if topics.is_empty() { Self::None } else { Self::Some(topics) }
    }
}

impl DeletableTopic {
    #[cfg(test)]
    pub fn named(name: &str, deleted_at: Option<Timestamp>) -> Self {
        Self {
            name: name.to_owned(),
            deleted_at,
            reported: None,
        }
    }

    fn of(name: &str, live: &KafkaTopic) -> Self {
        let conditions = live.status.iter().flat_map(|status| &status.conditions);
        let mut refused = conditions.filter(|c| c.type_ == "Ready" && c.status != "True");
        Self {
            name: name.to_owned(),
            deleted_at: live.metadata.deletion_timestamp.as_ref().map(|at| at.0),
            reported: refused.next().and_then(|condition| condition.message.clone()),
        }
    }
}

/// Why KafkaTopics that were deleted still exist, once that takes long. `cluster` is `NAMESPACE/NAME`.
pub fn overdue(topics: &[DeletableTopic], cluster: &str, now: Timestamp) -> Option<Problem> {
    let is_overdue = |topic: &&DeletableTopic| topic.deleted_at.is_some_and(|at| elapsed(at, now) >= PATIENCE);
    let topic = topics.iter().find(is_overdue)?;
    let (namespace, name) = cluster.split_once('/').unwrap_or_default();
    let reported = topic
        .reported
        .as_ref()
        .map_or_else(String::new, |message| format!("; it reports: {message}"));
    let message = format!(
        "KafkaTopic {namespace}/{} was deleted more than {} minutes ago, and the Entity Operator does not respond: check Deployment {name}-entity-operator \
         in namespace {namespace}, whose Topic Operator deletes the topic and removes the finalizer strimzi.io/topic-operator{reported}",
        topic.name,
        PATIENCE.as_secs() / 60
    );
    Some(("EntityOperatorUnresponsive".to_owned(), message))
}

#[cfg(test)]
mod tests {
    use kube::{api::ApiResource, core::GroupVersionKind};
    use serde_json::{Value, json};
    use userpipeline_api::TopicResource;

    use super::*;
    use crate::strimzi::Kind;

    fn recorded() -> TopicsStatus {
        TopicsStatus {
            cluster: "kafka/events".into(),
            resources: vec![TopicResource::default()],
            ..TopicsStatus::default()
        }
    }

    fn names() -> Names {
        Names {
            topic: Some("demo.users".into()),
            dead_letter_topic: Some("demo.users.dlq".into()),
            ..Names::default()
        }
    }

    /// A KafkaTopic of the pipeline, with changes.
    fn observed(change: fn(&mut Value)) -> Objects<KafkaTopic> {
        let mut object =
            json!({"metadata": {"name": "demo.users", "namespace": "kafka", "labels": {labels::PIPELINE_UID: "u"}}, "spec": {}});
        change(&mut object);
        let topic: KafkaTopic = serde_json::from_value(object).unwrap();
        Objects {
            resource: ApiResource::from_gvk(&GroupVersionKind::gvk("kafka.strimzi.io", "v1", "KafkaTopic")),
            by_name: [(topic.name_any(), topic.into())].into(),
        }
    }

    #[test]
    fn only_what_the_pipeline_created_and_names_and_nobody_else_uses_is_deleted() {
        type Change = fn(&mut Value);
        for (case, change, shared, expected) in [
            ("its own", (|_| {}) as Change, &[][..], true),
            (
                "of an earlier pipeline",
                |topic| topic["metadata"]["labels"][labels::PIPELINE_UID] = json!("other"),
                &[],
                false,
            ),
            (
                "an adopted one",
                |topic| topic["metadata"]["annotations"] = json!({labels::ADOPTED: "true"}),
                &[],
                false,
            ),
            (
                "of an earlier spec",
                |topic| topic["spec"]["topicName"] = json!("older"),
                &[],
                false,
            ),
            ("shared", |_| {}, &["topic demo.users".to_owned()], false),
        ] {
            let found = DeletableTopics::of(Some(&recorded()), &names(), "u", shared, |_| Ok(observed(change)));
            assert_eq!(found != DeletableTopics::None, expected, "{case}: {found:?}");
        }
        let retained = TopicsStatus {
            retained: true,
            ..recorded()
        };
        for recorded in [None, Some(&retained)] {
            let found = DeletableTopics::of(recorded, &names(), "u", &[], |_| Ok(observed(|_| {})));
            assert_eq!(found, DeletableTopics::None);
        }
    }

    #[test]
    fn without_strimzi_it_is_unknown_what_is_left() {
        let why = || Unavailable::NotServed { kind: Kind::KafkaTopic };
        let found = DeletableTopics::of(Some(&recorded()), &names(), "u", &[], |_| Err(why()));
        assert!(
            matches!(&found, DeletableTopics::Unknown((reason, _)) if reason == "StrimziMissing"),
            "{found:?}"
        );
    }

    #[test]
    fn after_five_minutes_it_is_said_what_does_not_respond() {
        let at = |second: i64| Timestamp::from_second(1_700_000_000 + second).unwrap();
        let topic = |deleted_at: Option<Timestamp>| DeletableTopic {
            name: "demo.users".into(),
            deleted_at,
            reported: Some("topicName cannot change".into()),
        };
        for (deleted_at, now, is_overdue) in [(None, 900, false), (Some(0), 299, false), (Some(0), 300, true)] {
            let problem = overdue(&[topic(deleted_at.map(at))], "kafka/events", at(now));
            assert_eq!(problem.is_some(), is_overdue, "{deleted_at:?} {now}");
            if let Some((_, message)) = problem {
                assert!(message.contains("events-entity-operator in namespace kafka"), "{message}");
                assert!(message.ends_with("topicName cannot change"), "{message}");
            }
        }
    }
}

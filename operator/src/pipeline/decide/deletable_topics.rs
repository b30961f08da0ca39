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

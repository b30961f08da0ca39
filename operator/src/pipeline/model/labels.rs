//! Labels, annotations and ownership of children.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use super::owner::Owner;
use crate::identity::MANAGER;

/// The name of the pipeline that a child belongs to.
pub const PIPELINE: &str = "userpipeline.dev/pipeline";
/// The namespace of the pipeline, on objects in other namespaces.
pub const PIPELINE_NAMESPACE: &str = "userpipeline.dev/pipeline-namespace";
/// The uid of the pipeline, on objects without an owner reference: they must exist until the pipeline is gone.
pub const PIPELINE_UID: &str = "userpipeline.dev/pipeline-uid";
pub const COMPONENT: &str = "app.kubernetes.io/component";
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The name of the connection that a check, or a ConfigMap with authorities, belongs to. Such objects have no pipeline.
pub const CONNECTION: &str = "userpipeline.dev/connection";
/// What a check Job checks: the generation of the connection, and the nonce of a request, such as `3` or `3.NONCE`.
pub const CHECK: &str = "userpipeline.dev/check";
/// How many check Jobs in a row ended without a report before this one.
pub const CHECK_ATTEMPT: &str = "userpipeline.dev/check-attempt";
/// The hash of the schema that a schema Job applies.
pub const SCHEMA_HASH: &str = "userpipeline.dev/schema-hash";
/// How many schema Jobs of the same hash failed before this one.
pub const SCHEMA_ATTEMPT: &str = "userpipeline.dev/schema-attempt";
/// What an inspection Job inspects: a hash of the cluster and the topics.
pub const INSPECTION: &str = "userpipeline.dev/inspection";
/// How many inspection Jobs of the same subject failed before this one.
pub const INSPECTION_ATTEMPT: &str = "userpipeline.dev/inspection-attempt";
/// The hash of image and pod settings of a task's Job.
pub const TASK: &str = "userpipeline.dev/task";
/// How many deletion Jobs failed before this one.
pub const DELETION_ATTEMPT: &str = "userpipeline.dev/deletion-attempt";
/// The start of the suspension that a drain Job verifies, in seconds since 1970.
pub const DRAIN_SINCE: &str = "userpipeline.dev/drain-since";
/// How many drain Jobs of this suspension failed before this one.
pub const DRAIN_ATTEMPT: &str = "userpipeline.dev/drain-attempt";
/// An annotation on the Job of a run that was stopped with its pipeline.
pub const STOPPED: &str = "userpipeline.dev/stopped";
/// An annotation on a Job that an injected container kept running: how its own container ended.
pub const CONTAINER_END: &str = "userpipeline.dev/container-end";
/// An annotation: the hash of the desired object that was applied last.
pub const DESIRED_HASH: &str = "userpipeline.dev/desired-hash";

/// An annotation on a KafkaTopic: the pipeline did not create the topic, so it is not deleted with the pipeline.
pub const ADOPTED: &str = "userpipeline.dev/adopted";
/// An annotation on a KafkaTopic, as JSON: how the topic was found, if it existed before.
pub const EXISTING_TOPIC: &str = "userpipeline.dev/existing-topic";
/// Strimzi's label with the name of the Kafka cluster. Objects without it are ignored.
pub const STRIMZI_CLUSTER: &str = "strimzi.io/cluster";

/// An annotation on a connection or a pipeline: ids of stores that are accepted although they are others than before, separated by
/// commas.
pub const ACCEPT_STORE: &str = "userpipeline.dev/accept-store";
/// An annotation on a connection: a nonce that requests a check.
pub const CHECK_NOW: &str = "userpipeline.dev/check-now";

/// The kind of a run; only Jobs that the operator creates have it.
pub const RUN_KIND: &str = "userpipeline.dev/run-kind";
/// `spec.runNow.nonce` of a requested run.
pub const NONCE: &str = "userpipeline.dev/nonce";
/// The back-fill that a run belongs to.
pub const BACKFILL: &str = "userpipeline.dev/backfill";
/// An annotation: the start of a run's data interval.
pub const INTERVAL_START: &str = "userpipeline.dev/interval-start";
/// An annotation: the end of a run's data interval, exclusive.
pub const INTERVAL_END: &str = "userpipeline.dev/interval-end";
/// `spec.owner`.
pub const OWNER: &str = "userpipeline.dev/owner";

/// Kubernetes' label with the uid of a pod's Job.
pub const JOB_UID: &str = "batch.kubernetes.io/controller-uid";

const NAME: &str = "app.kubernetes.io/name";
const INSTANCE: &str = "app.kubernetes.io/instance";

/// The component of a pipeline that a child belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    Ingest,
    Worker,
    Schema,
    /// Reads which topics exist before Strimzi gets KafkaTopics for them.
    Inspection,
    Drain,
    Deletion,
    /// The stored connections; no pod.
    Connections,
    /// The check of a connection.
    Check,
    /// The authorities of a connection's Kafka listener; no pod.
    Authorities,
    /// The user in Kafka; no pod.
    KafkaUser,
}

impl Component {
    /// The value of the label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Worker => "worker",
            Self::Schema => "schema",
            Self::Inspection => "inspection",
            Self::Drain => "drain",
            Self::Deletion => "deletion",
            Self::Connections => "connections",
            Self::Check => "check",
            Self::Authorities => "authorities",
            Self::KafkaUser => "kafka-user",
        }
    }
}

fn selected(pipeline: &str, component: Component) -> BTreeMap<String, String> {
    BTreeMap::from([
        (NAME.to_owned(), "userpipeline".to_owned()),
        (COMPONENT.to_owned(), component.as_str().to_owned()),
        (INSTANCE.to_owned(), pipeline.to_owned()),
    ])
}

/// The labels of a child, and of its pods.
pub fn labels(pipeline: &str, component: Component) -> BTreeMap<String, String> {
    let mut labels = selected(pipeline, component);
    labels.extend([
        (MANAGED_BY.to_owned(), MANAGER.to_owned()),
        (PIPELINE.to_owned(), pipeline.to_owned()),
    ]);
    labels
}

/// The same with the owner. Workers' pods do not have it: a new owner must not restart them.
pub fn with_owner(owner: &Owner, component: Component) -> BTreeMap<String, String> {
    let mut labels = labels(&owner.id.name, component);
    labels.extend(owner.team.iter().map(|team| (OWNER.to_owned(), team.clone())));
    if owner.reference.is_none() {
        labels.insert(PIPELINE_UID.to_owned(), owner.uid.clone());
    }
    labels
}

/// The workers' selector: those of their labels that never change.
pub fn worker_selector(pipeline: &str) -> LabelSelector {
    LabelSelector {
        match_labels: Some(selected(pipeline, Component::Worker)),
        match_expressions: None,
    }
}

/// The selector as text, for the scale subresource.
pub fn worker_selector_text(pipeline: &str) -> String {
    let parts: Vec<String> = selected(pipeline, Component::Worker)
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    parts.join(",")
}

/// Whether Kubernetes accepts `key` as the name of a label or an annotation.
pub fn is_key(key: &str) -> bool {
    let (domain, name) = key.split_once('/').map_or((None, key), |(domain, name)| (Some(domain), name));
    let is_domain = |domain: &str| {
        domain.len() <= 253
            && domain
                .split('.')
                .all(|part| is_word(part, |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'))
    };
    is_value(name) && !name.is_empty() && domain.is_none_or(is_domain)
}

/// Whether Kubernetes accepts `value` as the value of a label.
pub fn is_value(value: &str) -> bool {
    value.len() <= 63 && (value.is_empty() || is_word(value, |c| c.is_ascii_alphanumeric() || "-_.".contains(c)))
}

fn is_word(text: &str, has: impl Fn(char) -> bool) -> bool {
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    ends(text.chars().next()) && ends(text.chars().last()) && text.chars().all(has)
}

pub fn meta(owner: &Owner, name: String, component: Component) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(owner.id.namespace.clone()),
        labels: Some(with_owner(owner, component)),
        owner_references: owner.reference.clone().map(|reference| vec![reference]),
        ..ObjectMeta::default()
    }
}

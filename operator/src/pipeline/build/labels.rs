//! How children are labelled and owned.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use crate::{MANAGER, pipeline::validate::Parent};

/// The pipeline that a child belongs to.
pub const PIPELINE: &str = "userpipeline.dev/pipeline";
/// The uid of that pipeline, on what has no owner reference: it has to be there until the pipeline is gone.
pub const PIPELINE_UID: &str = "userpipeline.dev/pipeline-uid";
/// The part of the pipeline that a child is.
pub const COMPONENT: &str = "app.kubernetes.io/component";
/// Who made it.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// What a schema Job applies.
pub const SCHEMA_HASH: &str = "userpipeline.dev/schema-hash";
/// How many schema Jobs for the same have failed before it.
pub const SCHEMA_ATTEMPT: &str = "userpipeline.dev/schema-attempt";
/// How a task's pod was to be when its Job was made: image and settings.
pub const TASK: &str = "userpipeline.dev/task";
/// How many deletion Jobs have failed before it.
pub const DELETION_ATTEMPT: &str = "userpipeline.dev/deletion-attempt";
/// When the suspension began that a drain Job looks after, in seconds since 1970.
pub const DRAIN_SINCE: &str = "userpipeline.dev/drain-since";
/// How many drain Jobs of this suspension have failed before it.
pub const DRAIN_ATTEMPT: &str = "userpipeline.dev/drain-attempt";
/// Put on a run's Job that was stopped with its pipeline (an annotation).
pub const STOPPED: &str = "userpipeline.dev/stopped";
/// The hash of what the operator last wanted of an object (an annotation).
pub const DESIRED_HASH: &str = "userpipeline.dev/desired-hash";

/// Why a run happens; only Jobs that the operator makes have it.
pub const RUN_KIND: &str = "userpipeline.dev/run-kind";
/// The request of `spec.runNow` that a run answers.
pub const NONCE: &str = "userpipeline.dev/nonce";
/// The back-fill that a run belongs to.
pub const BACKFILL: &str = "userpipeline.dev/backfill";
/// The first moment of a run's data interval (an annotation).
pub const INTERVAL_START: &str = "userpipeline.dev/interval-start";
/// The first moment after it (an annotation).
pub const INTERVAL_END: &str = "userpipeline.dev/interval-end";
/// Whom to ask: `spec.owner`.
pub const OWNER: &str = "userpipeline.dev/owner";

const NAME: &str = "app.kubernetes.io/name";
const INSTANCE: &str = "app.kubernetes.io/instance";

/// A part of a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// The runs.
    Ingest,
    /// The workers.
    Worker,
    /// The schema Jobs.
    Schema,
    /// The drain Jobs.
    Drain,
    /// The deletion Jobs.
    Deletion,
}

impl Component {
    /// Its label's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Worker => "worker",
            Self::Schema => "schema",
            Self::Drain => "drain",
            Self::Deletion => "deletion",
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

/// The same with the owner. Workers' pods go without: they must not roll because somebody else looks after them.
pub fn with_owner(parent: &Parent, component: Component) -> BTreeMap<String, String> {
    let mut labels = labels(&parent.id.name, component);
    labels.extend(parent.contact.iter().map(|owner| (OWNER.to_owned(), owner.clone())));
    if parent.reference.is_none() {
        labels.insert(PIPELINE_UID.to_owned(), parent.uid.clone());
    }
    labels
}

/// The workers' selector: what of their labels never changes.
pub fn worker_selector(pipeline: &str) -> LabelSelector {
    LabelSelector {
        match_labels: Some(selected(pipeline, Component::Worker)),
        match_expressions: None,
    }
}

/// The same as text, for the scale subresource.
pub fn worker_selector_text(pipeline: &str) -> String {
    let parts: Vec<String> = selected(pipeline, Component::Worker)
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    parts.join(",")
}

/// Whether Kubernetes takes a text as the name of a label or an annotation.
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

/// Whether Kubernetes takes a text as the value of a label.
pub fn is_value(value: &str) -> bool {
    value.len() <= 63 && (value.is_empty() || is_word(value, |c| c.is_ascii_alphanumeric() || "-_.".contains(c)))
}

fn is_word(text: &str, has: impl Fn(char) -> bool) -> bool {
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    ends(text.chars().next()) && ends(text.chars().last()) && text.chars().all(has)
}

/// The metadata of a child.
pub fn meta(parent: &Parent, name: String, component: Component) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(parent.id.namespace.clone()),
        labels: Some(with_owner(parent, component)),
        owner_references: parent.reference.clone().map(|reference| vec![reference]),
        ..ObjectMeta::default()
    }
}

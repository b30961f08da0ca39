//! Events: a closed set of reasons, each published when the status changes, and not again. Pure.

use kube::runtime::events::{Event, EventType};
use userpipeline_api::{Run, RunOutcome, UserPipelineStatus, condition, text::truncate};

use crate::pipeline::model::reasons::{CONNECTION_INVALID, CONNECTION_MISSING, IN_PROGRESS, NOT_APPLIED, PAUSED};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Ready,
    /// Validation refused the spec.
    InvalidSpec,
    /// An older pipeline writes to the same resource.
    Conflict,
    /// The spec names connections that do not exist.
    ConnectionMissing,
    /// The spec names connections that cannot be used.
    ConnectionInvalid,
    /// The resource does not match this operator's version of it.
    Unreadable,
    /// A child cannot be applied.
    ApplyFailed,
    /// Topic, subject and tables.
    SchemaApplied,
    SchemaFailed,
    RunSucceeded,
    RunFailed,
    WorkersUnready,
    /// Too many runs failed in a row, so no more are started.
    Paused,
    DataFresh,
    DataStale,
    Suspended,
    Resumed,
    /// A mutating webhook changes what the operator applies.
    Overridden,
    /// Others set fields in the templates of pods.
    ForeignFields,
    /// Others set the number of workers in the Deployment.
    ScaledByOthers,
    /// The data outside Kubernetes was deleted with the pipeline.
    DataDeleted,
    /// The operator retries.
    DeletionFailed,
    /// The namespace is being deleted, so no Job could delete the data.
    DataRetained,
}

impl Reason {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::InvalidSpec => "InvalidSpec",
            Self::Conflict => "Conflict",
            Self::ConnectionMissing => CONNECTION_MISSING,
            Self::ConnectionInvalid => CONNECTION_INVALID,
            Self::Unreadable => "Unreadable",
            Self::ApplyFailed => "ApplyFailed",
            Self::SchemaApplied => "SchemaApplied",
            Self::SchemaFailed => "SchemaFailed",
            Self::RunSucceeded => "RunSucceeded",
            Self::RunFailed => "RunFailed",
            Self::WorkersUnready => "WorkersUnready",
            Self::Paused => "Paused",
            Self::DataFresh => "DataFresh",
            Self::DataStale => "DataStale",
            Self::Suspended => "Suspended",
            Self::Resumed => "Resumed",
            Self::Overridden => "Overridden",
            Self::ForeignFields => "ForeignFields",
            Self::ScaledByOthers => "ScaledByOthers",
            Self::DataDeleted => "DataDeleted",
            Self::DeletionFailed => "DeletionFailed",
            Self::DataRetained => "DataRetained",
        }
    }

    const fn is_warning(self) -> bool {
        matches!(
            self,
            Self::InvalidSpec
                | Self::Conflict
                | Self::ConnectionMissing
                | Self::ConnectionInvalid
                | Self::Unreadable
                | Self::ApplyFailed
                | Self::SchemaFailed
                | Self::RunFailed
                | Self::WorkersUnready
                | Self::Paused
                | Self::DataStale
                | Self::Overridden
                | Self::ForeignFields
                | Self::ScaledByOthers
                | Self::DeletionFailed
                | Self::DataRetained
        )
    }

    pub fn event(self, note: &str) -> Event {
        Event {
            type_: if self.is_warning() { EventType::Warning } else { EventType::Normal },
            reason: self.as_str().to_owned(),
            // The apiserver accepts 1024 bytes.
            note: Some(truncate(note, 1000)),
            action: "Reconcile".to_owned(),
            secondary: None,
        }
    }
}

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
    events.extend(schema(before, after));
    events.extend(deletion(before, after));
    events.extend(runs(before, after));
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

/// The oldest first. Runs that the status no longer lists are not published again.
fn runs(before: &UserPipelineStatus, after: &UserPipelineStatus) -> Vec<(Reason, String)> {
    let newest = before.runs.first().and_then(|run| run.finished_at.as_ref()).map(|at| at.0);
    let is_known = |run: &Run| {
        let mut known = before.runs.iter();
        known.any(|old| (&old.job, &old.finished_at) == (&run.job, &run.finished_at))
    };
    let is_older = |run: &Run| run.finished_at.as_ref().map(|at| at.0) < newest;
    let new = after.runs.iter().rev().filter(|run| !is_known(run) && !is_older(run));
    new.map(|run| {
        let reason = if run.outcome == RunOutcome::Succeeded {
            Reason::RunSucceeded
        } else {
            Reason::RunFailed
        };
        (reason, format!("{}: {}: {}", run.job, run.reason, run.message))
    })
    .collect()
}

fn deletion(before: &UserPipelineStatus, after: &UserPipelineStatus) -> Option<(Reason, String)> {
    let (old, new) = (before.deletion.clone().unwrap_or_default(), after.deletion.clone()?);
    let message = new.message.unwrap_or_default();
    if new.done_at.is_some() && old.done_at.is_none() {
        return Some((Reason::DataDeleted, message));
    }
    let failed = new.failed_attempts > old.failed_attempts;
    failed.then(|| {
        (
            Reason::DeletionFailed,
            format!("{}: {message}", new.failure_reason.unwrap_or_default()),
        )
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
    use userpipeline_api::SchemaStatus;

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
    fn a_long_note_is_cut_to_the_limit_of_the_apiserver() {
        assert!(Reason::RunFailed.event(&"日".repeat(1000)).note.unwrap().len() <= 1024);
    }
}

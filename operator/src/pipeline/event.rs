//! Events: a closed set of reasons, told when the status changes and never again.

use kube::runtime::events::{Event, EventType};
use userpipeline_api::{UserPipelineStatus, condition};

use super::schedule;

/// The reasons of Events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// All of the pipeline is as the spec wants it.
    Ready,
    /// The spec cannot be built.
    InvalidSpec,
    /// An elder pipeline has what this one would write to.
    Conflict,
    /// This operator cannot read the resource.
    Unreadable,
    /// A child cannot be applied.
    ApplyFailed,
    /// A schema Job has applied topic, subject and tables.
    SchemaApplied,
    /// A schema Job has failed.
    SchemaFailed,
    /// A run has succeeded.
    RunSucceeded,
    /// A run has failed.
    RunFailed,
    /// Workers do not do their work.
    WorkersUnready,
    /// So many runs have failed that no more are started.
    Paused,
    /// The data is as recent as the schedule promises, again or for the first time.
    DataFresh,
    /// It is not.
    DataStale,
    /// Schedule and workers are stopped.
    Suspended,
    /// They are no longer stopped.
    Resumed,
    /// What the pipeline has made was deleted with it.
    DataDeleted,
    /// It could not be; that is tried again.
    DeletionFailed,
    /// It stays, because the namespace goes.
    DataRetained,
}

impl Reason {
    /// As it is written in an Event.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::InvalidSpec => "InvalidSpec",
            Self::Conflict => "Conflict",
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
            Self::DataDeleted => "DataDeleted",
            Self::DeletionFailed => "DeletionFailed",
            Self::DataRetained => "DataRetained",
        }
    }

    const fn is_warning(self) -> bool {
        matches!(
            self,
            Self::InvalidSpec
                | Self::Unreadable
                | Self::ApplyFailed
                | Self::SchemaFailed
                | Self::RunFailed
                | Self::WorkersUnready
                | Self::Paused
                | Self::DataStale
                | Self::DeletionFailed
                | Self::DataRetained
        )
    }

    /// An Event with this reason.
    pub fn event(self, note: &str) -> Event {
        Event {
            type_: if self.is_warning() { EventType::Warning } else { EventType::Normal },
            reason: self.as_str().to_owned(),
            // The apiserver takes 1024 bytes.
            note: Some(cut(note, 1000)),
            action: "Reconcile".to_owned(),
            secondary: None,
        }
    }
}

fn cut(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let end = (0..=limit).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
    format!("{}…", &text[..end])
}

/// Reasons of a condition that say that something is on its way, not that something is wrong.
const ON_ITS_WAY: [&str; 10] = [
    "RollingOut",
    "Unavailable",
    "WaitingForSchema",
    "Draining",
    "InvalidSpec",
    "Conflict",
    "Applying",
    "BeingDeleted",
    "Changed",
    "Starting",
];
/// Reasons of a condition that come from a child that cannot be applied.
const NOT_APPLIED: [&str; 3] = ["ApplyFailed", "NotOurs", "DeleteFailed"];

/// A condition's status, reason and message.
type Said = (String, String, String);

/// What there is to tell of the change from one status to the next.
pub fn between(before: &UserPipelineStatus, after: &UserPipelineStatus) -> Vec<(Reason, String)> {
    let find = |status: &UserPipelineStatus, type_: &str| {
        status
            .conditions
            .iter()
            .find(|c| c.type_ == type_)
            .map(|c| (c.status.clone(), c.reason.clone(), c.message.clone()))
    };
    let mut told = Vec::new();
    let mut changed = |type_: &str, tell: &mut dyn FnMut(Option<Said>, Said) -> Option<Reason>| {
        let (old, Some(new)) = (find(before, type_), find(after, type_)) else {
            return;
        };
        if old.as_ref() != Some(&new)
            && let Some(reason) = tell(old, new.clone())
            && !told.contains(&(reason, new.2.clone()))
        {
            told.push((reason, new.2));
        }
    };
    changed(condition::READY, &mut |old, (status, reason, _)| match reason.as_str() {
        "InvalidSpec" => Some(Reason::InvalidSpec),
        "Conflict" => Some(Reason::Conflict),
        "Unreadable" => Some(Reason::Unreadable),
        reason if NOT_APPLIED.contains(&reason) => Some(Reason::ApplyFailed),
        _ if status == "True" && old.is_none_or(|(status, ..)| status != "True") => Some(Reason::Ready),
        _ => None,
    });
    changed(condition::SCHEDULE_READY, &mut |old, (_, reason, _)| {
        if reason == schedule::PAUSED && old.is_none_or(|(_, old, _)| old != schedule::PAUSED) {
            return Some(Reason::Paused);
        }
        NOT_APPLIED.contains(&reason.as_str()).then_some(Reason::ApplyFailed)
    });
    changed(
        condition::DATA_FRESH,
        &mut |old, (status, ..)| match (old.map(|(status, ..)| status).as_deref(), status.as_str()) {
            (Some("True"), "True") | (Some("False"), "False") => None,
            (_, "True") => Some(Reason::DataFresh),
            (_, "False") => Some(Reason::DataStale),
            _ => None,
        },
    );
    changed(condition::WORKERS_READY, &mut |old, (status, reason, _)| {
        if NOT_APPLIED.contains(&reason.as_str()) {
            return Some(Reason::ApplyFailed);
        }
        let news = old.is_none_or(|(_, old, _)| old != reason);
        (status == "False" && news && !ON_ITS_WAY.contains(&reason.as_str())).then_some(Reason::WorkersUnready)
    });
    changed(
        condition::SUSPENDED,
        &mut |old, (status, reason, _)| match (old.map(|(status, ..)| status).as_deref(), status.as_str()) {
            (Some("True"), "True") => None,
            (_, "True") => Some(Reason::Suspended),
            (Some("True"), "False") if reason == "NotSuspended" => Some(Reason::Resumed),
            _ => None,
        },
    );

    let (old, new) = (before.schema.clone().unwrap_or_default(), after.schema.clone().unwrap_or_default());
    if new.applied_at.is_some() && (&new.applied_hash, &new.applied_at) != (&old.applied_hash, &old.applied_at) {
        told.push((
            Reason::SchemaApplied,
            format!(
                "topic {}, its subject and the tables are as wanted",
                after.topic.as_deref().unwrap_or_default()
            ),
        ));
    }
    if new.failed_attempts > 0 && (&new.attempted_hash, new.failed_attempts) != (&old.attempted_hash, old.failed_attempts) {
        told.push((
            Reason::SchemaFailed,
            format!(
                "{}: {}",
                new.failure_reason.unwrap_or_default(),
                new.failure_message.unwrap_or_default()
            ),
        ));
    }
    told.extend(deletion(before, after));
    // The oldest first; those that a status forgot and sees again are not news.
    let newest = before.runs.first().and_then(|run| run.finished_at.as_ref()).map(|at| at.0);
    for run in after.runs.iter().rev() {
        let is_known = before
            .runs
            .iter()
            .any(|old| (&old.job, &old.finished_at) == (&run.job, &run.finished_at));
        if is_known || run.finished_at.as_ref().map(|at| at.0) < newest {
            continue;
        }
        let reason = if run.outcome == "Succeeded" {
            Reason::RunSucceeded
        } else {
            Reason::RunFailed
        };
        told.push((reason, format!("{}: {}: {}", run.job, run.reason, run.message)));
    }
    told
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
    use userpipeline_api::{Run, SchemaStatus};

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
        between(before, after).into_iter().map(|(reason, _)| reason).collect()
    }

    #[test]
    fn a_change_is_told_once() {
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
    fn schema_jobs_and_runs_are_told() {
        let before = UserPipelineStatus::default();
        let after = UserPipelineStatus {
            schema: Some(SchemaStatus {
                attempted_hash: Some("a".into()),
                failed_attempts: 1,
                ..SchemaStatus::default()
            }),
            runs: vec![Run {
                job: "users-ingest-1".into(),
                outcome: "Failed".into(),
                ..Run::default()
            }],
            ..UserPipelineStatus::default()
        };
        assert_eq!(reasons(&before, &after), [Reason::SchemaFailed, Reason::RunFailed]);
    }

    #[test]
    fn a_long_note_is_cut_to_what_the_apiserver_takes() {
        assert!(Reason::RunFailed.event(&"日".repeat(1000)).note.unwrap().len() <= 1024);
    }
}

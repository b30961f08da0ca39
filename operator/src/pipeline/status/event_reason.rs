//! The reasons of Events: a closed set.

use kube::runtime::events::{Event, EventType};
use userpipeline_api::{report::TOPIC_REPLACED, text::truncate};

use crate::pipeline::model::reasons::{CONNECTION_INVALID, CONNECTION_MISSING};

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
    /// Strimzi, or the operator, refuses the KafkaTopics.
    TopicUnready,
    /// The topic was deleted, and created again without its messages.
    TopicReplaced,
    RunSucceeded,
    RunFailed,
    /// A run succeeded, but the source seems to have more.
    DataIncomplete,
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
            Self::TopicUnready => "TopicUnready",
            Self::TopicReplaced => TOPIC_REPLACED,
            Self::RunSucceeded => "RunSucceeded",
            Self::RunFailed => "RunFailed",
            Self::DataIncomplete => "DataIncomplete",
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
                | Self::TopicUnready
                | Self::TopicReplaced
                | Self::RunFailed
                | Self::DataIncomplete
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_note_is_cut_to_the_limit_of_the_apiserver() {
        assert!(Reason::RunFailed.event(&"日".repeat(1000)).note.unwrap().len() <= 1024);
    }
}

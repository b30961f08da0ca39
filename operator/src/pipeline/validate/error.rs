//! Why a pipeline cannot be applied.

use userpipeline_api::{ResolveError, names::PipelineId};

use crate::pipeline::model::reasons::{CONNECTION_INVALID, CONNECTION_MISSING};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValidateError {
    /// Each problem names its field and what to do.
    #[error("{}", .0.join("; "))]
    InvalidSpec(Vec<String>),
    /// A table, topic or consumer group belongs to another pipeline; none where that is in another namespace.
    #[error("{what} is already used by {}. Nothing was changed", who(.owner.as_ref()))]
    Conflict { what: String, owner: Option<PipelineId> },
    /// Names of connections that do not exist.
    #[error("spec.connections names connections that do not exist: {}. Create them, or remove the names. Nothing was changed", .0.join(", "))]
    ConnectionMissing(Vec<String>),
    /// Connections that cannot be used, each with the reason.
    #[error("spec.connections names connections that cannot be used: {}. Nothing was changed", .0.join("; "))]
    ConnectionInvalid(Vec<String>),
}

impl ValidateError {
    pub fn panicked(panic: &str) -> Self {
        Self::InvalidSpec(vec![format!(
            "spec: the operator failed while it validated the spec ({panic}); report this with the spec"
        )])
    }

    pub const fn reason(&self) -> &'static str {
        match self {
            Self::InvalidSpec(_) => "InvalidSpec",
            Self::Conflict { .. } => "Conflict",
            Self::ConnectionMissing(_) => CONNECTION_MISSING,
            Self::ConnectionInvalid(_) => CONNECTION_INVALID,
        }
    }

    /// Whether the pipeline is applied without an edit once its connections are as it needs them.
    pub const fn waits_for_connections(&self) -> bool {
        matches!(self, Self::ConnectionMissing(_) | Self::ConnectionInvalid(_))
    }
}

fn who(owner: Option<&PipelineId>) -> String {
    owner.map_or_else(
        || "a UserPipeline of another namespace: choose another name".to_owned(),
        |id| format!("the older UserPipeline {id}: choose another name, or delete one of the two"),
    )
}

impl From<ResolveError> for ValidateError {
    fn from(error: ResolveError) -> Self {
        match error {
            ResolveError::InvalidSpec(problems) => Self::InvalidSpec(problems),
            ResolveError::ConnectionMissing(names) => Self::ConnectionMissing(names),
            ResolveError::ConnectionInvalid(problems) => Self::ConnectionInvalid(problems),
        }
    }
}

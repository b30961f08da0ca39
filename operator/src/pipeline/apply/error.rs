//! Why a child is not as desired.

use crate::strimzi::Unavailable;

#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A foreign object has the name.
    #[error("{kind} {name} exists and is not controlled by this UserPipeline; delete or rename it")]
    NotOurs { kind: String, name: String },
    /// It must be gone before it can be re-created.
    #[error("{kind} {name} is being deleted; it is re-created once it is gone")]
    BeingDeleted { kind: String, name: String },
    /// It is not the observed version any more, so the delete is decided again.
    #[error("{kind} {name} changed before it could be deleted; the operator retries")]
    Changed { kind: String, name: String },
    /// The child's pods would run under a ServiceAccount that cannot be applied.
    #[error("not changed, because no pod may run under the ServiceAccount: {why}")]
    NoAccount { reason: &'static str, why: String },
    /// Strimzi's resources cannot be used, or it is not known yet which exist.
    #[error("{0}")]
    Unavailable(Unavailable),
    #[error("cannot apply {kind} {name}: {}", text(.source))]
    ApplyFailed {
        kind: String,
        name: String,
        source: Box<kube::Error>,
    },
    #[error("cannot delete {kind} {name}: {}", text(.source))]
    DeleteFailed {
        kind: String,
        name: String,
        source: Box<kube::Error>,
    },
}

impl ApplyError {
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NotOurs { .. } => "NotOurs",
            Self::BeingDeleted { .. } => "BeingDeleted",
            Self::Changed { .. } => "Changed",
            Self::NoAccount { reason, .. } => reason,
            Self::Unavailable(why) => why.reason(),
            Self::ApplyFailed { .. } => "ApplyFailed",
            Self::DeleteFailed { .. } => "DeleteFailed",
        }
    }
}

fn text(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// Whether the kind's CustomResourceDefinition is gone, or on its way: then only the message distinguishes it from a missing right.
pub(super) fn is_kind_gone(error: &ApplyError) -> bool {
    let ApplyError::ApplyFailed { source, .. } = error else {
        return false;
    };
    let kube::Error::Api(status) = source.as_ref() else { return false };
    status.code == 404 || status.message.contains("custom resource definition is terminating")
}

/// Whether the object cannot be created because its namespace is being deleted.
pub fn is_namespace_terminating(error: &ApplyError) -> bool {
    let ApplyError::ApplyFailed { source, .. } = error else {
        return false;
    };
    let kube::Error::Api(status) = source.as_ref() else { return false };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
}

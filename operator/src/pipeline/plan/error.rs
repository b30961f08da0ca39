//! Why there is no plan.

use userpipeline_api::names::PipelineId;

use crate::pipeline::validate::ValidateError;

#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The apiserver refused a request, or did not answer.
    #[error("{what}: {}", text(.source))]
    Refused { what: String, source: Box<kube::Error> },
    #[error("{0}")]
    Invalid(#[from] ValidateError),
    #[error("UserPipeline {0} is being deleted")]
    BeingDeleted(PipelineId),
    /// Children that the apiserver would refuse, or a schema Job that failed.
    #[error("{}", .0.join("; "))]
    Children(Vec<String>),
    /// Children that changed while they were planned.
    #[error("{}", .0.join("; "))]
    Changed(Vec<String>),
    /// The file or the resource cannot be read.
    #[error("{0}")]
    Unreadable(String),
}

fn text(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// `what` is the refused request.
pub(super) fn refused(what: impl Into<String>) -> impl FnOnce(kube::Error) -> PlanError {
    let what = what.into();
    move |source| PlanError::Refused {
        what,
        source: Box::new(source),
    }
}

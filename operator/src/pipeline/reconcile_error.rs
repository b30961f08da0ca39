//! Why a reconcile is repeated.

use super::status::WriteError;

#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// Children that are not as desired.
    #[error("{}", .0.join("; "))]
    Apply(Vec<String>),
    #[error("cannot write the status: {0}")]
    Status(#[from] WriteError),
}

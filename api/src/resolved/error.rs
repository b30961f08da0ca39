//! What is resolved, and why it cannot be.

use std::collections::BTreeMap;

use crate::UserPipelineConnectionSpec;

/// The connections of a namespace by name. An error says why pipelines cannot use the connection.
pub type Connections = BTreeMap<String, Result<UserPipelineConnectionSpec, String>>;

/// Why a pipeline cannot be resolved. Each text names its field, or its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResolveError {
    /// A block comes from no place or from two, or a field is not allowed beside a connection.
    InvalidSpec(Vec<String>),
    /// Names of connections that do not exist.
    ConnectionMissing(Vec<String>),
    /// Connections that no pipeline can use, each with the reason.
    ConnectionInvalid(Vec<String>),
}

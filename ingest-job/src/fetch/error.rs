//! Why a request gave no page, and whether a retry may help.

use std::time::Duration;

use userpipeline_stores::error::with_causes;

use crate::outcome::Failure;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// The same request may succeed later.
    Retryable {
        error: String,
        /// The pause that the source asks for.
        retry_after: Option<Duration>,
    },
    /// The same request will probably fail again: it is sent once more.
    Doubtful(Failure),
    /// The same request will fail again.
    Permanent(Failure),
}

impl RequestError {
    pub fn retryable(error: impl Into<String>) -> Self {
        Self::Retryable {
            error: error.into(),
            retry_after: None,
        }
    }
}

/// An error of the client with its causes, without the URL: its path and query may be secret.
pub fn describe(e: reqwest::Error) -> String {
    with_causes(&e.without_url())
}

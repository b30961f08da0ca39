//! What responses mean that an API uses in its own way.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a response means that an API uses in its own way, such as `200 {"Note": "… limit"}`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorRule {
    /// CEL expression. If it is true, `then` applies: `status == 200 && has(answer.Note)`. It reads `status` (a
    /// number), `headers` (names in lower case) and `answer` (the response; null if it is not JSON). An
    /// expression that fails, for example because a member is missing, is not true.
    #[schemars(length(min = 1, max = 1024))]
    pub when: String,
    /// What the response means.
    pub then: ErrorAction,
    /// What the run's message says about such a response. Default: status and beginning of the response.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub message: Option<String>,
}

/// What a response means.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorAction {
    /// The request is sent again, with back-off.
    Retry,
    /// A rate limit: the request is sent again after the pause that the headers ask for, or a minute.
    Wait,
    /// The run fails, and its Job does not retry.
    Fail,
    /// There are no more items.
    End,
    /// It is an ordinary response, whatever its status, and GraphQL errors beside data are accepted.
    Ignore,
}

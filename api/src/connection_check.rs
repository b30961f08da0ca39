//! Result of the check of a connection.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{omitted::is_zero, text::truncate};

/// Longest message of a block, in bytes: the report of all blocks must fit a termination message.
const MESSAGE_LIMIT: usize = 240;

/// Result of the last check: a Job connects to each block as workers and runs do.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionCheck {
    /// Generation of the spec that was checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// Nonce of the annotation `userpipeline.dev/check-now` that requested the check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    /// Time of the check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checked_at: Option<Time>,
    /// Earliest end of validity of the servers' certificates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_not_after: Option<Time>,
    /// Results by block.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["block"]))]
    pub blocks: Vec<BlockCheck>,
    /// Number of checks in a row that found a problem.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub consecutive_problems: i32,
    /// Number of Jobs in a row that ended without a report.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failed_attempts: i32,
    /// Time of the last such failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_at: Option<Time>,
    /// Reason of the last such failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_reason: Option<String>,
    /// Message of the last such failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_message: Option<String>,
}

/// Result of the check of a block.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockCheck {
    /// Name of the block: `postgres`, `kafka`, `schemaRegistry`, `cassandra` or `http`.
    pub block: String,
    /// Reason of the failure, in CamelCase. Absent if the server can be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Message for the failure, or a note.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Time until the first response, with connecting and authentication, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_milliseconds: Option<i64>,
    /// Version of TLS. Absent in plain text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_version: Option<String>,
    /// End of validity of the server's certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_not_after: Option<Time>,
    /// Version of the server, where it reports one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_version: Option<String>,
    /// Rights that pipelines need, and that the user lacks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing_rights: Vec<String>,
}

impl BlockCheck {
    /// Truncates the message. Control characters, which JSON writes as six characters, become spaces.
    #[must_use]
    pub fn with_message(mut self, message: &str) -> Self {
        let message: String = message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        self.message = Some(truncate(&message, MESSAGE_LIMIT));
        self
    }
}

//! Retention of what a pipeline stores beside its sinks.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::{Duration, source::DurationText};

/// Retention of what a pipeline stores beside its sinks. Default: keep everything.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Retention {
    /// Age, since landing, at which landed records are deleted; unpublished ones stay. An item that the
    /// source serves again after that is landed, published and stored once more. Keep records for longer than
    /// the source repeats items.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1m') && duration(self) <= duration('87600h')")
        .message("spec.retention.landing must be between 1m and 87600h (10 years)"))]
    #[schemars(with = "Option<DurationText>")]
    pub landing: Option<Duration>,
    /// Age, since their end, at which runs are deleted from the ledger. A deleted run that is requested
    /// again, by a back-fill, catch-up or `runNow`, runs again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1m') && duration(self) <= duration('87600h')")
        .message("spec.retention.runs must be between 1m and 87600h (10 years)"))]
    #[schemars(with = "Option<DurationText>")]
    pub runs: Option<Duration>,
    /// Age at which rejected items are deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1m') && duration(self) <= duration('87600h')")
        .message("spec.retention.rejects must be between 1m and 87600h (10 years)"))]
    #[schemars(with = "Option<DurationText>")]
    pub rejects: Option<Duration>,
    /// Age at which the versions of deleted records are deleted. Until then they prevent older messages from
    /// restoring a record. Keep them for longer than the topic and the dead-letter topic keep messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1m') && duration(self) <= duration('87600h')")
        .message("spec.retention.tombstones must be between 1m and 87600h (10 years)"))]
    #[schemars(with = "Option<DurationText>")]
    pub tombstones: Option<Duration>,
}

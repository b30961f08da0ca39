//! How long a pipeline keeps what it keeps beside its sinks.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::{Duration, source::DurationText};

/// How long a pipeline keeps what it keeps beside its sinks. What is not given is kept for good.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Retention {
    /// Landed records, from when they were landed; those that are not on the topic yet stay. An item that the source serves again
    /// after that is landed, published and stored once more: keep them for longer than the source repeats itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1m') && duration(self) <= duration('87600h')")
        .message("spec.retention.landing must be between 1m and 87600h, which is ten years"))]
    #[schemars(with = "Option<DurationText>")]
    pub landing: Option<Duration>,
    /// The ledger's runs, from when they ended. A run that is forgotten and asked for again, by a back-fill, catch-up or `runNow`, happens again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1m') && duration(self) <= duration('87600h')")
        .message("spec.retention.runs must be between 1m and 87600h, which is ten years"))]
    #[schemars(with = "Option<DurationText>")]
    pub runs: Option<Duration>,
    /// Items that are no records.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1m') && duration(self) <= duration('87600h')")
        .message("spec.retention.rejects must be between 1m and 87600h, which is ten years"))]
    #[schemars(with = "Option<DurationText>")]
    pub rejects: Option<Duration>,
    /// The versions of deleted records, which keep older messages from bringing them back: for longer than a message can be
    /// delivered late, which is as long as the topic keeps it, and the dead-letter topic, from which it may be driven again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1m') && duration(self) <= duration('87600h')")
        .message("spec.retention.tombstones must be between 1m and 87600h, which is ten years"))]
    #[schemars(with = "Option<DurationText>")]
    pub tombstones: Option<Duration>,
}

//! The processes that read the topic and write to the sinks.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::{Duration, source::DurationText, units::seconds};

/// The processes that read the topic and write to the sinks.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Workers {
    /// How many; more than the topic has partitions are idle.
    #[serde(default = "replicas")]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: i32,
    /// How records are gathered before they are written.
    #[serde(default)]
    pub batch: Batch,
}

impl Default for Workers {
    fn default() -> Self {
        Self {
            replicas: replicas(),
            batch: Batch::default(),
        }
    }
}

/// How records are gathered before they are written: whichever comes first.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Batch {
    /// So many records.
    #[serde(default = "max_records")]
    #[schemars(range(min = 1, max = 10_000))]
    pub max_records: i32,
    /// Or so long after the first.
    #[serde(default = "max_latency")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1ms') && duration(self) <= duration('1m')")
        .message("spec.workers.batch.maxLatency must be between 1ms and 1m"))]
    #[schemars(with = "DurationText")]
    pub max_latency: Duration,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            max_records: max_records(),
            max_latency: max_latency(),
        }
    }
}

const fn replicas() -> i32 {
    1
}

const fn max_records() -> i32 {
    1000
}

fn max_latency() -> Duration {
    seconds(1).into()
}

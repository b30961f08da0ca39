//! Workers read the topic and write to the sinks.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::{Duration, source::DurationText, units::seconds};

/// Workers read the topic and write to the sinks.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Workers {
    /// Number of workers. More workers than the topic has partitions are idle.
    #[serde(default = "replicas")]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: i32,
    /// When a batch is written.
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

/// When a batch is written: at once if the worker writes nothing else, and otherwise at the limit that is reached first.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Batch {
    /// Most records of a batch.
    #[serde(default = "max_records")]
    #[schemars(range(min = 1, max = 10_000))]
    pub max_records: i32,
    /// How long messages wait for more of them at most, while the worker writes others.
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

//! A back-fill: runs of a pipeline's past intervals, beside its schedule.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Interval, schedule::ArgumentsSchema};

/// Runs past data intervals of a pipeline, beside its schedule.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "userpipeline.dev",
    version = "v1alpha1",
    kind = "UserPipelineBackfill",
    plural = "userpipelinebackfills",
    shortname = "upb",
    category = "pipelines",
    namespaced,
    status = "UserPipelineBackfillStatus",
    derive = "PartialEq",
    cel,
    doc = "Runs a pipeline's past data intervals, beside its schedule.",
    printcolumn(name = "Pipeline", type_ = "string", json_path = ".spec.pipelineRef.name"),
    printcolumn(name = "Total", type_ = "integer", json_path = ".status.total", description = "Number of intervals"),
    printcolumn(name = "Running", type_ = "integer", json_path = ".status.running"),
    printcolumn(name = "Succeeded", type_ = "integer", json_path = ".status.succeeded"),
    printcolumn(name = "Failed", type_ = "integer", json_path = ".status.failed"),
    printcolumn(name = "Skipped", type_ = "integer", json_path = ".status.skipped", description = "Intervals that had a run before"),
    printcolumn(name = "Next", type_ = "string", json_path = ".status.next.start", description = "Start of the next interval"),
    printcolumn(name = "Complete", type_ = "string", json_path = ".status.conditions[?(@.type=='Complete')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Complete')].reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "From", type_ = "string", json_path = ".spec.from", priority = 1),
    printcolumn(name = "To", type_ = "string", json_path = ".spec.to", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type=='Complete')].message", priority = 1),
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$')")
        .message("metadata.name must have at most 63 lower-case letters, digits and '-', because it is a label of its runs")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.from < self.to && self.to < timestamp('9999-01-01T00:00:00Z')")
        .message("spec.from must be before spec.to, and spec.to before the year 9999"),
    validation = Rule::new("self.pipelineRef == oldSelf.pipelineRef && self.from == oldSelf.from && self.to == oldSelf.to && self.reprocess == oldSelf.reprocess && self.order == oldSelf.order")
        .message("only spec.suspend, spec.maxActiveRuns and spec.dryRun can be changed: create another back-fill for other intervals"),
    validation = Rule::new("!self.dryRun || oldSelf.dryRun").message("spec.dryRun cannot be set after the back-fill has started: suspend or delete it"),
)]
pub struct UserPipelineBackfillSpec {
    /// The pipeline, in the same namespace.
    pub pipeline_ref: PipelineRef,
    /// Start of the back-fill. It runs intervals that start at this time or later.
    pub from: Time,
    /// End of the back-fill. It runs intervals that end at this time or earlier, and were complete when the
    /// back-fill was created.
    pub to: Time,
    /// Number of active runs at a time, in addition to those of the schedule.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 100))]
    pub max_active_runs: i32,
    /// Which intervals run again, if the ledger has a run of them.
    #[serde(default)]
    pub reprocess: Reprocess,
    /// Order of the intervals.
    #[serde(default)]
    pub order: Order,
    /// Arguments that override the pipeline's `spec.schedule.arguments`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "ArgumentsSchema")]
    pub arguments: BTreeMap<String, String>,
    /// Lists the intervals in the status, and runs none. Set it to false to start.
    #[serde(default)]
    pub dry_run: bool,
    /// Starts no more runs. Active runs finish.
    #[serde(default)]
    pub suspend: bool,
}

/// A pipeline in the same namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PipelineRef {
    /// Name of the pipeline.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
}

/// Which intervals run again, if the ledger has a run of them.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reprocess {
    /// None: an interval with a run is skipped, whether the run succeeded or failed.
    #[default]
    None,
    /// An interval whose run failed runs again.
    Failed,
    /// Every interval runs again, once for this back-fill.
    All,
}

impl Reprocess {
    /// As in the resource and in arguments.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Failed => "Failed",
            Self::All => "All",
        }
    }
}

impl std::str::FromStr for Reprocess {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::None, Self::Failed, Self::All]
            .into_iter()
            .find(|reprocess| reprocess.as_str() == text)
            .ok_or_else(|| format!("`{text}` is none of None, Failed and All"))
    }
}

/// Order of the intervals.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Oldest first.
    #[default]
    OldestFirst,
    /// Newest first.
    NewestFirst,
}

/// Status of a back-fill, as the operator observed it.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UserPipelineBackfillStatus {
    /// Generation of the spec that this status describes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The condition `Complete`, and for kstatus `Reconciling` and `Stalled`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Number of intervals.
    #[serde(default)]
    pub total: i32,
    /// Number of active runs.
    #[serde(default)]
    pub running: i32,
    /// Number of runs that succeeded.
    #[serde(default)]
    pub succeeded: i32,
    /// Number of runs that failed.
    #[serde(default)]
    pub failed: i32,
    /// Number of intervals that were skipped because they had a run before.
    #[serde(default)]
    pub skipped: i32,
    /// Start of the next interval to run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<Interval>,
    /// Intervals of a dry run, in their order, at most a hundred.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub intervals: Vec<Interval>,
    /// Progress. All intervals up to this one, in their order, have ended and are counted here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settled: Option<Settled>,
    /// Time at which the last run ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
}

/// Progress of a back-fill.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settled {
    /// End of the last settled interval, in the back-fill's order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    /// Number of settled intervals that succeeded.
    #[serde(default)]
    pub succeeded: i32,
    /// Number of settled intervals that failed.
    #[serde(default)]
    pub failed: i32,
    /// Number of settled intervals that were skipped.
    #[serde(default)]
    pub skipped: i32,
}

const fn one() -> i32 {
    1
}

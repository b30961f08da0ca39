//! A back-fill: runs of a pipeline's past intervals, beside its schedule.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Interval, schedule::ArgumentsSchema};

/// Runs a pipeline's past data intervals, beside its schedule.
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
    printcolumn(name = "Total", type_ = "integer", json_path = ".status.total", description = "Intervals"),
    printcolumn(name = "Running", type_ = "integer", json_path = ".status.running"),
    printcolumn(name = "Succeeded", type_ = "integer", json_path = ".status.succeeded"),
    printcolumn(name = "Failed", type_ = "integer", json_path = ".status.failed"),
    printcolumn(name = "Skipped", type_ = "integer", json_path = ".status.skipped", description = "Intervals that had been run before"),
    printcolumn(name = "Next", type_ = "string", json_path = ".status.next.start", description = "The start of the interval that is run next"),
    printcolumn(name = "Complete", type_ = "string", json_path = ".status.conditions[?(@.type=='Complete')].status"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "From", type_ = "string", json_path = ".spec.from", priority = 1),
    printcolumn(name = "To", type_ = "string", json_path = ".spec.to", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type=='Complete')].message", priority = 1),
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$')")
        .message("metadata.name must be at most 63 lower-case letters, digits and '-': it becomes a label of its runs")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.from < self.to && self.to < timestamp('9999-01-01T00:00:00Z')")
        .message("spec.from must be before spec.to, and that before the year 9999"),
    validation = Rule::new("self.pipelineRef == oldSelf.pipelineRef && self.from == oldSelf.from && self.to == oldSelf.to && self.reprocess == oldSelf.reprocess && self.order == oldSelf.order")
        .message("only suspend, maxActiveRuns and dryRun can change: make another back-fill for other intervals"),
    validation = Rule::new("!self.dryRun || oldSelf.dryRun").message("a back-fill that has begun cannot become a dry run: suspend it, or delete it"),
)]
pub struct UserPipelineBackfillSpec {
    /// The pipeline, in the same namespace.
    pub pipeline_ref: PipelineRef,
    /// Intervals that start at this moment or later are run, …
    pub from: Time,
    /// … as far as they end at this one or earlier, and are complete.
    pub to: Time,
    /// How many of its runs may be under way at a time, beside those of the schedule.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 100))]
    pub max_active_runs: i32,
    /// What happens to intervals that had a run before.
    #[serde(default)]
    pub reprocess: Reprocess,
    /// Which interval goes first.
    #[serde(default)]
    pub order: Order,
    /// Other values than the pipeline's `spec.schedule.arguments`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "ArgumentsSchema")]
    pub arguments: BTreeMap<String, String>,
    /// Lists the intervals in the status and runs none; set it to false to begin.
    #[serde(default)]
    pub dry_run: bool,
    /// Starts no more runs; those under way end.
    #[serde(default)]
    pub suspend: bool,
}

/// A pipeline in the same namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PipelineRef {
    /// Its name.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
}

/// What happens to intervals that had a run before, by the ledger.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reprocess {
    /// They are skipped, whether that run has succeeded or failed.
    #[default]
    None,
    /// Those whose run has failed are run again.
    Failed,
    /// All are run again, once by this back-fill.
    All,
}

impl Reprocess {
    /// As it is written in the resource and in arguments.
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

/// Which interval goes first.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// The oldest.
    #[default]
    OldestFirst,
    /// The newest.
    NewestFirst,
}

/// What the operator says of a back-fill.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UserPipelineBackfillStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Complete`, and for kstatus `Reconciling` and `Stalled`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// How many intervals there are.
    #[serde(default)]
    pub total: i32,
    /// How many are being run.
    #[serde(default)]
    pub running: i32,
    /// How many were run with success.
    #[serde(default)]
    pub succeeded: i32,
    /// How many were run without.
    #[serde(default)]
    pub failed: i32,
    /// How many had been run before, and were not run again.
    #[serde(default)]
    pub skipped: i32,
    /// The interval that is run next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<Interval>,
    /// The intervals of a dry run, in their order, the first hundred.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub intervals: Vec<Interval>,
    /// How far it is: all intervals up to this one, in their order, have ended and are counted here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settled: Option<Settled>,
    /// When all of it had ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
}

/// How far a back-fill is.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settled {
    /// The end of the last interval that is settled, in the back-fill's order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    /// Of those settled, how many were run with success.
    #[serde(default)]
    pub succeeded: i32,
    /// How many without.
    #[serde(default)]
    pub failed: i32,
    /// How many were skipped.
    #[serde(default)]
    pub skipped: i32,
}

const fn one() -> i32 {
    1
}

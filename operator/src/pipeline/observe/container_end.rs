//! How a Job's own container ended while another container kept its pod running.
//!
//! Kubernetes ends such a Job only at its deadline, and deletes the pod with the report. So the result is written to the Job.

use jiff::Timestamp;
use k8s_openapi::api::{batch::v1::Job, core::v1::ContainerStateTerminated};
use kube::ResourceExt;
use serde::{Deserialize, Serialize};

use super::pods;
use crate::pipeline::model::labels;

/// The value of an annotation of the Job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerEnd {
    pub pod: String,
    /// Containers that kept the pod running.
    pub held_by: Vec<String>,
    pub terminated: ContainerStateTerminated,
}

impl ContainerEnd {
    /// The result that was written to the Job.
    pub fn recorded(job: &Job) -> Option<Self> {
        serde_json::from_str(job.annotations().get(labels::CONTAINER_END)?).ok()
    }

    pub fn at(&self) -> Timestamp {
        pods::ended_at(&self.terminated)
    }

    /// For the message of the Job's result.
    pub fn advice(&self) -> String {
        let names = self.held_by.join(", ");
        let unrepeated = if self.terminated.exit_code == 0 {
            ""
        } else {
            " without further attempts"
        };
        format!(
            "the operator ended the Job{unrepeated} because container {names} kept its pod running: make it a native sidecar (an init container with restartPolicy: Always)"
        )
    }
}

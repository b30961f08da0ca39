//! The drain Job: it verifies that the workers of a suspended pipeline stored and committed everything.

use k8s_openapi::api::batch::v1::Job;

use super::task_job::Task;
use crate::pipeline::{
    decide::drain::NewDrainJob,
    model::{PodConfigRef, labels},
    validate::ValidatedPipeline,
};

/// `config` is the one that the workers had.
pub(super) fn build(pipeline: &ValidatedPipeline, config: &PodConfigRef, job: NewDrainJob) -> Job {
    let task = Task {
        component: labels::Component::Drain,
        suffix: &format!("drain-{}-{}", job.since, job.attempt),
        command: "verify-drained",
        arguments: &[],
        labels: &[
            (labels::DRAIN_SINCE, &job.since.to_string()),
            (labels::DRAIN_ATTEMPT, &job.attempt.to_string()),
        ],
    };
    task.build(&pipeline.owner, config)
}

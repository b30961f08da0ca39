//! The drain Job: whether the workers of a suspended pipeline have left everything in order.

use k8s_openapi::api::batch::v1::Job;

use super::{Given, labels, task::Task};
use crate::pipeline::{drain::NewJob, validate::ValidatedPipeline};

/// With what the workers have had: it looks after them.
pub(super) fn build(pipeline: &ValidatedPipeline, given: &Given, job: NewJob) -> Job {
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
    task.build(&pipeline.parent, given)
}

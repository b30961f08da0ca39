//! The inspection Job: it reads which topics exist before Strimzi gets KafkaTopics for them.

use k8s_openapi::api::batch::v1::Job;

use super::task_job::Task;
use crate::pipeline::{decide::topics::NewInspection, model::labels, validate::ValidatedPipeline};

pub(super) fn build(pipeline: &ValidatedPipeline, inspection: &NewInspection) -> Job {
    let NewInspection { subject, attempt } = inspection;
    let task = Task {
        component: labels::Component::Inspection,
        suffix: &format!("inspection-{subject}-{attempt}"),
        command: "inspect-topics",
        arguments: &[],
        labels: &[(labels::INSPECTION, subject), (labels::INSPECTION_ATTEMPT, &attempt.to_string())],
    };
    task.build(&pipeline.owner, &pipeline.schema.reference())
}

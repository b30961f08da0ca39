//! The schema Job: it applies topic, subject and tables.

use k8s_openapi::api::batch::v1::Job;

use super::task_job::Task;
use crate::pipeline::{
    model::{Installation, labels},
    validate::ValidatedPipeline,
};

pub(super) fn build(pipeline: &ValidatedPipeline, installation: &Installation, attempt: i32) -> Job {
    let hash = &pipeline.schema_hash;
    let task = Task {
        component: labels::Component::Schema,
        suffix: &format!("schema-{hash}-{attempt}"),
        command: "apply-schema",
        arguments: &["--cluster", &installation.cluster],
        labels: &[(labels::SCHEMA_HASH, hash), (labels::SCHEMA_ATTEMPT, &attempt.to_string())],
    };
    task.build(&pipeline.owner, &pipeline.schema.reference())
}

//! The schema Job: topic, subject and tables.

use k8s_openapi::api::batch::v1::Job;

use super::{Given, Installation, labels, task::Task};
use crate::pipeline::validate::ValidatedPipeline;

pub(super) fn build(pipeline: &ValidatedPipeline, installation: &Installation, attempt: i32) -> Job {
    let given = Given {
        config_map: pipeline.schema.config_map.clone(),
        secrets: pipeline.schema.secrets.clone(),
    };
    let hash = &pipeline.schema_hash;
    let task = Task {
        component: labels::Component::Schema,
        suffix: &format!("schema-{hash}-{attempt}"),
        command: "apply-schema",
        arguments: &["--cluster", &installation.cluster],
        labels: &[(labels::SCHEMA_HASH, hash), (labels::SCHEMA_ATTEMPT, &attempt.to_string())],
    };
    task.build(&pipeline.parent, &given)
}

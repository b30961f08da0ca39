//! The schema Job: topic, subject and tables.

use k8s_openapi::api::{
    batch::v1::{Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnPodConditionsPattern, PodFailurePolicyRule},
    core::v1::PodTemplateSpec,
};
use kube::core::ObjectMeta;
use userpipeline_api::names;

use super::{Given, Images, labels, pod};
use crate::pipeline::validate::ValidatedPipeline;

const DEADLINE_SECONDS: i64 = 300;

pub(super) fn build(pipeline: &ValidatedPipeline, images: &Images, attempt: i32) -> Job {
    let component = labels::Component::Schema;
    let given = Given {
        config_map: pipeline.schema.config_map.clone(),
        secrets: pipeline.schema.secrets.clone(),
    };
    let mut container = pod::container("schema", "stream-worker", images, &given);
    container.args = Some(pod::arguments(&["apply-schema"]));
    container.resources = Some(pod::resources("50m", "32Mi", "256Mi"));
    let hash = &pipeline.schema_hash;
    let name = names::child(&pipeline.id.name, &format!("schema-{hash}-{attempt}"), names::LABEL_LIMIT);
    let mut metadata = labels::meta(pipeline, name, component);
    metadata.labels.get_or_insert_default().extend([
        (labels::SCHEMA_HASH.to_owned(), hash.clone()),
        (labels::SCHEMA_ATTEMPT.to_owned(), attempt.to_string()),
    ]);
    Job {
        metadata,
        spec: Some(JobSpec {
            active_deadline_seconds: Some(DEADLINE_SECONDS),
            // The operator makes the next one itself, with a back-off of its own. No TTL: it deletes a Job when it has recorded it.
            backoff_limit: Some(0),
            pod_failure_policy: Some(PodFailurePolicy {
                rules: vec![ignore_disruptions()],
            }),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(labels::labels(&pipeline.id.name, component)),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod::pod(pipeline, container, "Never", &given)),
            },
            ..JobSpec::default()
        }),
        status: None,
    }
}

/// A pod that a drained node has lost is no failed attempt.
pub(super) fn ignore_disruptions() -> PodFailurePolicyRule {
    PodFailurePolicyRule {
        action: "Ignore".to_owned(),
        on_pod_conditions: Some(vec![PodFailurePolicyOnPodConditionsPattern {
            type_: "DisruptionTarget".to_owned(),
            status: "True".to_owned(),
        }]),
        on_exit_codes: None,
    }
}

//! The workers' PodDisruptionBudget: one worker may be evicted at a time.

use k8s_openapi::{
    api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};
use userpipeline_api::names;

use crate::pipeline::{model::labels, validate::ValidatedPipeline};

pub(super) fn build(pipeline: &ValidatedPipeline) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: labels::meta(&pipeline.owner, names::workers(&pipeline.owner.id.name), labels::Component::Worker),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            // Workers that a store refuses are unready, and consume nothing: they must not keep a node from being drained.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            selector: Some(labels::worker_selector(&pipeline.owner.id.name)),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    }
}

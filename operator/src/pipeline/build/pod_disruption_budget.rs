//! One worker at a time may be evicted.

use k8s_openapi::{
    api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};
use userpipeline_api::names;

use super::labels;
use crate::pipeline::validate::ValidatedPipeline;

pub(super) fn build(pipeline: &ValidatedPipeline) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: labels::meta(
            &pipeline.parent,
            names::workers(&pipeline.parent.id.name),
            labels::Component::Worker,
        ),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(labels::worker_selector(&pipeline.parent.id.name)),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    }
}

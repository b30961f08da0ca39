//! Whether a pipeline may change to the current versions of its connections now, among all pipelines that roll out.

use std::time::Instant;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use userpipeline_api::UserPipeline;

use super::{
    connections::NamedConnections,
    context::Context,
    decide::{
        connection_rollout::{ConnectionInput, Decision, Progress, decide},
        upgrade::Inherited,
    },
    model::{PodConfigRef, pipeline_id},
    observe::{Observed, is_available, rolling_out},
    validate::ValidatedPipeline,
};

/// The decision about the connections of a pipeline. A plan shows the end of a rollout.
pub fn connection_turn(
    pipeline: &UserPipeline,
    valid: &ValidatedPipeline,
    observed: &Observed,
    named: &NamedConnections,
    context: &Context,
    now: Timestamp,
) -> Decision {
    let status = pipeline.status.clone().unwrap_or_default();
    let schema = status.schema.unwrap_or_default();
    let schema_is_current = schema.applied_hash.as_ref() == Some(&valid.schema_hash) && schema.attempted_hash.is_none();
    let live = observed.worker_deployment(&valid.owner.id);
    let workers_are_current = live.is_none_or(|live| worker_config(live).as_ref() == Some(&valid.worker.config_map));
    let input = ConnectionInput {
        is_edited: context.ignore_rollout_order || status.observed_generation != pipeline.metadata.generation,
        suspended: valid.spec.suspend,
        was_applied: schema.applied_hash.is_some(),
        recorded: &status.connections,
        current: &named.versions,
        rollout: status.connection_rollout.as_ref(),
        progress: match schema_is_current && workers_are_current {
            false => Progress::Differs,
            true if live.is_some_and(is_available) => Progress::Settled,
            true => Progress::Applied,
        },
    };
    let take_slot = || context.rollouts.take_slot(&valid.owner.id, || inherited(context), Instant::now());
    Decision {
        problem: named.problem(),
        ..decide(&input, take_slot, now)
    }
}

fn worker_config(deployment: &Deployment) -> Option<String> {
    Some(PodConfigRef::of_template(&deployment.spec.as_ref()?.template)?.config_map)
}

/// What an earlier operator began. Reads every cached Deployment and status.
pub fn inherited(context: &Context) -> Inherited {
    let pipelines = context.caches.pipelines.store().state();
    let has_slot = |status: serde_json::Value| status.get("connectionRollout").is_some_and(serde_json::Value::is_object);
    Inherited {
        rolling: rolling_out(&context.caches.children.deployments),
        slots: pipelines
            .iter()
            .filter(|cached| cached.status().is_some_and(has_slot))
            .map(|cached| pipeline_id(cached.as_ref()))
            .collect(),
    }
}

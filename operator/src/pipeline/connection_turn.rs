//! Whether a pipeline may change to the current versions of its connections now, among all pipelines that roll out.

use std::time::Instant;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use userpipeline_api::UserPipeline;

use super::{
    cache::CachedPipeline,
    connections::NamedConnections,
    context::Context,
    decide::{
        connection_rollout::{ConnectionInput, Decision, Progress, Schema, decide},
        upgrade::{Inherited, Slot},
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
        schema: match (&schema.applied_hash, schema.failed_attempts) {
            (None, _) => Schema::Missing,
            (Some(_), 0) => Schema::Applied,
            (Some(_), _) => Schema::Failing,
        },
        recorded: &status.connections,
        current: &named.versions,
        rollout: status.connection_rollout.as_ref(),
        progress: match schema_is_current && workers_are_current {
            false => Progress::Differs,
            true if live.is_some_and(is_available) => Progress::Settled,
            true => Progress::Applied,
        },
    };
    let take_slot = |changed: &[String]| {
        let inherited = || inherited(context, now);
        context.rollouts.take_slot(&valid.owner.id, changed, inherited, Instant::now())
    };
    Decision {
        problem: named.problem(),
        ..decide(&input, take_slot, now)
    }
}

fn worker_config(deployment: &Deployment) -> Option<String> {
    Some(PodConfigRef::of_template(&deployment.spec.as_ref()?.template)?.config_map)
}

/// What an earlier operator began. Reads every cached Deployment and status.
pub fn inherited(context: &Context, now: Timestamp) -> Inherited {
    let pipelines = context.caches.pipelines.store().state();
    let slot = |cached: &CachedPipeline| {
        let rollout = cached.status()?.get_mut("connectionRollout")?.take();
        Some((pipeline_id(cached), Slot::of(&serde_json::from_value(rollout).ok()?, now)))
    };
    Inherited {
        rolling: rolling_out(&context.caches.children.deployments),
        slots: pipelines.iter().filter_map(|cached| slot(cached)).collect(),
    }
}

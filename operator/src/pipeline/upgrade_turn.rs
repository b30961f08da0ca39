//! Whether the workers of a pipeline may roll out now, among those of all pipelines.

use std::time::Instant;

use jiff::Timestamp;
use userpipeline_api::UserPipeline;

use super::{
    apply::was_applied,
    connection_turn::inherited,
    context::Context,
    decide::upgrade::{Turn, UpgradeInput},
    desired::Desired,
    observe::{Observed, has_other_workers, is_rolling_out},
    validate::ValidatedPipeline,
};

/// The turn of a pipeline that is to become `desired`. A plan shows the end of an upgrade.
pub fn turn(
    pipeline: &UserPipeline,
    valid: &ValidatedPipeline,
    observed: &Observed,
    desired: &Desired,
    context: &Context,
    now: Instant,
) -> Turn {
    let live = observed
        .worker_deployment(&valid.owner.id)
        .filter(|_| !context.ignore_rollout_order);
    let (Some(live), Some(desired)) = (live, desired.workers.deployments.first()) else {
        return Turn::Now;
    };
    let input = UpgradeInput {
        generation: pipeline.metadata.generation,
        observed_generation: pipeline.status.as_ref().and_then(|status| status.observed_generation),
        // A webhook may have changed what was applied.
        changes_workers: has_other_workers(live, desired) && !was_applied(live, desired),
        is_rolling_out: is_rolling_out(live),
        suspended: valid.spec.suspend,
    };
    context
        .rollouts
        .turn(&valid.owner.id, input, || inherited(context, Timestamp::now()), now)
}

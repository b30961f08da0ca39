//! One reconcile: observe, validate, decide, build the desired children, apply them, write the status.

use std::{sync::Arc, time::Instant};

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use kube::runtime::controller::Action;
use userpipeline_api::{UserPipeline, names, names::PipelineId};
use userpipeline_runtime::contain;

use super::{
    apply::{Applied, Applier, ApplyError, apply, was_applied},
    back_off::jitter,
    cache::CachedPipeline,
    context::Context,
    decide::{
        decide,
        upgrade::{Turn, UpgradeInput},
    },
    deletion::reconcile_deletion,
    desired::desired,
    model::pipeline_id,
    observe::{Observed, RunJob, has_other_image, is_rolling_out, observe, rolling_out, run_jobs},
    reconcile_error::ReconcileError,
    status::{MEASURE_EVERY, pipeline_sample, pipeline_status, requeue_after},
    unreadable::report_unreadable,
    validate::{ValidateError, ValidatedPipeline, validate},
};
use crate::metrics::Outcome;

/// Reconciles a cached pipeline, which may not be readable, and counts the result.
pub async fn reconcile(resource: Arc<CachedPipeline>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let (started, now) = (Instant::now(), Timestamp::now());
    let id = pipeline_id(resource.as_ref());
    context.waiting.take(&id);
    let result = match resource.read() {
        Ok(pipeline) => Box::pin(reconcile_pipeline(pipeline, &context, now)).await,
        Err(error) => report_unreadable(&id, &error.to_string(), &context, now).await,
    };
    let outcome = if result.is_ok() { Outcome::Success } else { Outcome::Error };
    context.metrics.reconciled(outcome, started.elapsed());
    result
}

async fn reconcile_pipeline(pipeline: UserPipeline, context: &Context, now: Timestamp) -> Result<Action, ReconcileError> {
    let id = PipelineId::of(&pipeline);
    let pipeline = context.status.cache().newest(pipeline);
    if pipeline.metadata.deletion_timestamp.is_some() {
        return Box::pin(reconcile_deletion(&pipeline, context, now)).await;
    }
    let observed = observe(&id, &context.caches.children, &context.workers, now).await;
    let runs = run_jobs(&names::cron_job(&id.name), &observed);
    let outcome = Box::pin(converge(&pipeline, &observed, &runs, context, now)).await;

    let version = &context.installation.images.tag;
    let status = pipeline_status(&pipeline, outcome.as_ref(), &observed, &runs, version, now);
    let written = context.status.write(&pipeline, &status).await;
    context.metrics.pipeline(&id, &pipeline_sample(&pipeline, &status, &observed));
    written?;

    let errors: Vec<String> = outcome.iter().flat_map(Applied::errors).map(ApplyError::to_string).collect();
    if !errors.is_empty() {
        return Err(ReconcileError::Apply(errors));
    }
    context.back_off.forget(&id);
    let pipeline = UserPipeline {
        status: Some(status),
        ..pipeline
    };
    let wait = requeue_after(&pipeline, outcome.as_ref(), &observed, now);
    Ok(Action::requeue(if wait > MEASURE_EVERY { jitter(wait) } else { wait }))
}

/// Applies the pipeline as far as its state allows: a spec that is not valid changes nothing.
pub async fn converge(
    pipeline: &UserPipeline,
    observed: &Observed,
    runs: &[RunJob],
    context: &Context,
    now: Timestamp,
) -> Result<Applied, ValidateError> {
    // Parses expressions, with a library: whatever that does must not end the work on other pipelines.
    let valid =
        contain(|| validate(pipeline, &context.installation.images)).unwrap_or_else(|panic| Err(ValidateError::panicked(&panic)))?;
    if let Some(conflict) = context.resources.conflict(pipeline, &context.caches.pipelines.store().state()) {
        return Err(ValidateError::Conflict {
            what: conflict.what,
            older: conflict.older,
        });
    }
    let mut decisions = decide(pipeline, &valid, observed, runs, context.ignore_rollout_order, now);
    let mut children = desired(&valid, &context.installation, &decisions);
    let deployment = children.workers.deployments.first();
    decisions.turn = turn(pipeline, &valid, observed, deployment, context, now);
    if decisions.turn == Turn::Waiting {
        children = desired(&valid, &context.installation, &decisions);
    }
    let owner = &valid.owner;
    let applier = Applier::new(&context.client, &context.metrics, &owner.id, &owner.uid, &context.overrides);
    Ok(Box::pin(apply(&applier, pipeline, children, decisions, observed, now)).await)
}

/// Whether the workers may roll out now. A plan shows the end of an upgrade.
fn turn(
    pipeline: &UserPipeline,
    valid: &ValidatedPipeline,
    observed: &Observed,
    desired: Option<&Deployment>,
    context: &Context,
    now: Timestamp,
) -> Turn {
    let live = observed
        .worker_deployment(&valid.owner.id)
        .filter(|_| !context.ignore_rollout_order);
    let (Some(live), Some(desired)) = (live, desired) else {
        return Turn::Now;
    };
    let input = UpgradeInput {
        generation: pipeline.metadata.generation,
        observed_generation: pipeline.status.as_ref().and_then(|status| status.observed_generation),
        // A webhook may have changed the image that was applied.
        changes_image: has_other_image(live, &valid.owner.images) && !was_applied(live, desired),
        is_rolling_out: is_rolling_out(live),
        suspended: valid.spec.suspend,
    };
    let all = || rolling_out(&context.caches.children.deployments);
    context.rollouts.turn(&valid.owner.id, input, all, now)
}

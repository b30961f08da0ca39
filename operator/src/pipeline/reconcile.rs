//! One reconcile: observe, validate, decide, build the desired children, apply them, write the status.

use std::{sync::Arc, time::Instant};

use jiff::Timestamp;
use kube::runtime::controller::Action;
use userpipeline_api::{UserPipeline, names, names::PipelineId};
use userpipeline_runtime::contain;

use super::{
    apply::{Applied, Applier, ApplyError, apply},
    cache::CachedPipeline,
    context::Context,
    decide::decide,
    deletion::reconcile_deletion,
    desired::desired,
    model::pipeline_id,
    observe::{Observed, RunJob, observe, run_jobs},
    reconcile_back_off::jitter,
    reconcile_error::ReconcileError,
    status::{MEASURE_EVERY, pipeline_sample, pipeline_status, requeue_after},
    unreadable::report_unreadable,
    validate::{ValidateError, validate},
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
    let decisions = decide(pipeline, &valid, observed, runs, context.ignore_rollout_order, now);
    let desired = desired(&valid, &context.installation, &decisions);
    let applier = Applier::new(&context.client, &context.metrics, &valid.owner.id, &valid.owner.uid);
    Ok(Box::pin(apply(&applier, pipeline, desired, decisions, observed, now)).await)
}

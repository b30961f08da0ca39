//! One reconcile: observe, validate, decide, build the desired children, apply them, write the status.

use std::{sync::Arc, time::Instant};

use jiff::Timestamp;
use kube::{ResourceExt, runtime::controller::Action};
use userpipeline_api::{UserPipeline, UserPipelineStatus, names, names::PipelineId};
use userpipeline_runtime::contain;

use super::{
    apply::{Applied, ApplyError, apply},
    cache::CachedPipeline,
    connection_turn::connection_turn,
    context::Context,
    decide::{
        Decisions, decide, held_jobs,
        upgrade::{Slot, Turn},
    },
    deletion::reconcile_deletion,
    desired::{Desired, desired},
    kafka_user_turn::kafka_user,
    model::{config_digests, pipeline_id},
    observe::{Observed, RunJob, observe, run_jobs},
    reconcile_back_off::jitter,
    reconcile_error::ReconcileError,
    status::{MEASURE_EVERY, WriteError, pipeline_sample, pipeline_status, requeue_after},
    topics_turn::topics_turn,
    unreadable::report_unreadable,
    upgrade_turn::turn,
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
    // Before connections are read: a later change of one of them queues the pipeline again.
    let names = pipeline.spec.connections.iter().map(|connection| connection.name.as_str());
    context.connection_uses.record(&id, names);
    if pipeline.metadata.deletion_timestamp.is_some() {
        return Box::pin(reconcile_deletion(&pipeline, context, now)).await;
    }
    let mut observed = observe(&pipeline, &context.caches.children, &context.replica_sets, &context.workers, now).await;
    observed.refusals = context.refused_pods.of(&id, &observed, now).await;
    observed.scaler = context.scalers.of(&id, &observed, Instant::now());
    let runs = run_jobs(&names::cron_job(&id.name), &observed);
    // Also where the spec is invalid: the Jobs are those of an earlier one.
    let held = held_jobs::decide(&observed, now);
    let uid = pipeline.uid().unwrap_or_default();
    let not_ended = context.applier(&id, &uid).end_jobs(&held.end).await;
    let outcome = Box::pin(converge(&pipeline, &observed, &runs, context, now)).await;
    let outcome = outcome.map(|applied| applied.with_not_ended(not_ended));

    let version = &context.installation.images.tag;
    let status = pipeline_status(&pipeline, outcome.as_ref(), &observed, &runs, version, now);
    let slot = status.connection_rollout.as_ref().map(|rollout| Slot::of(rollout, now));
    context.rollouts.set_slot(&id, slot);
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
    let wait = held.requeue.map_or(wait, |held| held.min(wait));
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
    let named = context.connections.named_by(pipeline);
    let valid = contain(|| validate(pipeline, &named.connections, &context.installation))
        .unwrap_or_else(|panic| Err(ValidateError::panicked(&panic)))?;
    let valid = ValidatedPipeline {
        accepted_stores: named.accepted_stores.clone(),
        connections: named.used.clone(),
        ..valid
    };
    let all = context.caches.pipelines.store().state();
    if let Some(conflict) = context.resources.conflict(pipeline, &all, &context.connections) {
        return Err(ValidateError::Conflict {
            what: conflict.what,
            owner: conflict.owner,
        });
    }
    let connections = connection_turn(pipeline, &valid, observed, &named, context, now);
    let mut decisions = decide(pipeline, &valid, observed, runs, connections, context.ignore_rollout_order, now);
    let user = kafka_user(&valid, &decisions, observed, context);
    decisions.use_kafka_user(user);
    let topics = topics_turn(pipeline, &valid, observed, &decisions, context, now);
    decisions.use_topics(topics);
    if decisions.schema.create.is_some() {
        decisions.taken_names = context.resources.taken_elsewhere(pipeline, &all, &context.connections);
    }
    let mut children = desired(&valid, &context.installation, &decisions);
    decisions.turn = turn(pipeline, &valid, observed, &children, context, Instant::now());
    if decisions.turn == Turn::Waiting {
        children = desired(&valid, &context.installation, &decisions);
    }
    let recorded = record_digests(pipeline, &children, observed, &mut decisions, context).await;
    let applier = context.applier(&valid.owner.id, &valid.owner.uid);
    let outcome = Box::pin(apply(&applier, pipeline, children, decisions, observed, recorded, now)).await;
    if outcome.workers.is_err() {
        context.rollouts.release(&valid.owner.id);
    }
    Ok(outcome)
}

/// Records which ConfigMaps the operator reads back, before it writes them. A plan records nothing.
async fn record_digests(
    pipeline: &UserPipeline,
    desired: &Desired,
    observed: &Observed,
    decisions: &mut Decisions,
    context: &Context,
) -> Result<(), ApplyError> {
    let live = observed.children.config_maps.iter().map(AsRef::as_ref);
    let is_waiting = decisions.connections.turn == Turn::Waiting;
    let digests = config_digests(&decisions.config_digests, desired.read_back(), live, is_waiting);
    let before = pipeline.status.clone().unwrap_or_default();
    decisions.config_digests.clone_from(&digests);
    if context.ignore_rollout_order || digests.iter().all(|digest| before.config_digests.contains(digest)) {
        return Ok(());
    }
    let status = UserPipelineStatus {
        config_digests: digests,
        ..before
    };
    context
        .status
        .write(pipeline, &status)
        .await
        .map_err(|error| ApplyError::ApplyFailed {
            kind: "status of UserPipeline".to_owned(),
            name: pipeline.name_any(),
            source: match error {
                WriteError::StatusFailed(source) => source,
                WriteError::StatusUnwritable(error) => Box::new(kube::Error::SerdeError(error)),
            },
        })
}

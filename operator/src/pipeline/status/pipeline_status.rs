//! The status of a pipeline that is not being deleted, and when to reconcile it again. Pure.

use std::time::Duration;

use jiff::Timestamp;
use userpipeline_api::{ScheduleStatus, SchemaStatus, UserPipeline, UserPipelineStatus, VersionStatus, names, names::PipelineId};

use super::{conditions, measure, measure::MEASURE_EVERY, workers};
use crate::pipeline::{
    apply::Applied,
    decide::{schedule::History, upgrade::Turn},
    model::labels,
    observe::{Observed, RunJob, run_problem_after},
    validate::ValidateError,
};

/// The resync of a pipeline in which nothing moves.
pub(super) const RESYNC: Duration = Duration::from_secs(450);

/// The new status; `pipeline.status` is the previous one.
pub fn pipeline_status(
    pipeline: &UserPipeline,
    outcome: Result<&Applied, &ValidateError>,
    observed: &Observed,
    runs: &[RunJob],
    operator_version: &str,
    now: Timestamp,
) -> UserPipelineStatus {
    let before = pipeline.status.clone().unwrap_or_default();
    let generation = pipeline.metadata.generation;
    let id = PipelineId::of(pipeline);
    let named = names::in_stores(&pipeline.spec, &id);
    let history = History::of(&before, runs, None);
    let consecutive_failures = history.consecutive_failures;
    let mut status = UserPipelineStatus {
        observed_generation: generation,
        version: Some(version(pipeline, operator_version)),
        selector: Some(labels::worker_selector_text(&id.name)),
        topic: named.topic.clone(),
        names: Some(named),
        workers: workers::counts(outcome, observed, &id),
        last_run: history.last_run,
        runs: history.runs,
        last_success: history.last_success,
        ..before.clone()
    };
    if let Ok(applied) = outcome {
        let decisions = &applied.decisions;
        status.schedule = Some(decisions.runs.status.clone());
        status.run_now.clone_from(&decisions.runs.run_now);
        status.drain.clone_from(&decisions.drain.status);
        status.default_tls_mode = Some(decisions.default_tls.mode);
        status.connections.clone_from(&decisions.connections.versions);
        status.connection_rollout.clone_from(&decisions.connections.rollout);
        status.config_digests.clone_from(&decisions.config_digests);
        status.created_objects.clone_from(&decisions.created_objects);
        status.store_identities.clone_from(&decisions.store_identities);
        status.topics.clone_from(&decisions.topics.status);
        status.schema = Some(decisions.schema.status.clone()).filter(|schema| *schema != SchemaStatus::default());
    } else {
        // The previous spec is still in effect. Its failed runs count when the spec is fixed.
        status.schedule = before.schedule.clone().map(|schedule| ScheduleStatus {
            consecutive_failures,
            ..schedule
        });
        // An edit ends the rollout of a connection, also one that cannot be applied.
        let is_edited = before.observed_generation != generation;
        status.connection_rollout = before.connection_rollout.clone().filter(|_| !is_edited);
    }
    measure::measure(&mut status, observed, now);
    let verdicts = match outcome {
        Ok(applied) => conditions::of_applied(pipeline, applied, observed, &before, &status, now),
        Err(error) => conditions::of_invalid(error),
    };
    status.conditions = verdicts
        .into_iter()
        .map(|(type_, verdict)| verdict.condition(type_, generation, &before.conditions, now))
        .collect();
    status
}

/// The desired version, and the one that is available without the pin.
fn version(pipeline: &UserPipeline, operator_version: &str) -> VersionStatus {
    let pinned = pipeline.spec.image.as_ref().and_then(|image| image.version.clone());
    VersionStatus {
        available: pinned
            .as_ref()
            .filter(|pinned| *pinned != operator_version)
            .map(|_| operator_version.to_owned()),
        wanted: pinned.unwrap_or_else(|| operator_version.to_owned()),
    }
}

/// When to reconcile again, if no event comes first.
pub fn requeue_after(pipeline: &UserPipeline, outcome: Result<&Applied, &ValidateError>, observed: &Observed, now: Timestamp) -> Duration {
    let soon = match outcome {
        Ok(Applied { decisions, .. }) => {
            let waiting = (decisions.connections.turn == Turn::Waiting).then_some(MEASURE_EVERY);
            let decided = [
                decisions.topics.requeue,
                decisions.schema.requeue,
                decisions.runs.requeue,
                decisions.drain.requeue,
                waiting,
            ];
            decided.into_iter().flatten().min()
        }
        // The older pipeline may be deleted at any moment, and no event of this pipeline reports it.
        Err(ValidateError::Conflict { .. }) => Some(MEASURE_EVERY),
        // An event of the connection queues the pipeline.
        Err(ValidateError::InvalidSpec(_) | ValidateError::ConnectionMissing(_) | ValidateError::ConnectionInvalid(_)) => None,
    };
    let is_active =
        observed.workers().next().is_some() || (!pipeline.spec.suspend && pipeline.spec.workers.replicas > 0 && outcome.is_ok());
    // A reconcile that came too early to measure is followed by one that does.
    let measures = is_active || measure::is_early(pipeline.status.as_ref(), now);
    let reports = [observed.refusals.check_after, run_problem_after(observed, now)];
    let soon = soon.into_iter().chain(reports.into_iter().flatten()).min();
    soon.unwrap_or(RESYNC).min(if measures { MEASURE_EVERY } else { RESYNC })
}

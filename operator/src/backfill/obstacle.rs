//! Why a back-fill starts no runs.

use k8s_openapi::api::batch::v1::CronJob;
use userpipeline_api::{Ticks, UserPipeline, UserPipelineBackfill};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// Its `spec.suspend`.
    Suspended,
    PipelineMissing,
    PipelineSuspended,
    /// The pipeline has no CronJob yet, or its spec is invalid.
    PipelineNotReady(String),
    /// The pipeline does not declare this argument.
    InvalidArguments(String),
}

/// The ticks, where the pipeline has a valid schedule; and the obstacle, if there is one. `has_account`: the pipeline's
/// ServiceAccount is its own.
pub fn find_obstacle(
    backfill: &UserPipelineBackfill,
    pipeline: Option<&UserPipeline>,
    cron_job: Option<&CronJob>,
    has_account: bool,
) -> (Option<Ticks>, Option<Obstacle>) {
    let Some(pipeline) = pipeline else {
        return (None, Some(Obstacle::PipelineMissing));
    };
    let Some(schedule) = &pipeline.spec.schedule else {
        let why = "external producers write to its topic (spec.source.topic), so it has no runs".to_owned();
        return (None, Some(Obstacle::PipelineNotReady(why)));
    };
    let ticks = match Ticks::read(&schedule.cron, &schedule.time_zone) {
        Ok(ticks) => ticks,
        Err(problem) => return (None, Some(Obstacle::PipelineNotReady(problem))),
    };
    let unknown = backfill.spec.arguments.keys().find(|name| !schedule.arguments.contains_key(*name));
    let obstacle = if let Some(name) = unknown {
        Some(Obstacle::InvalidArguments(name.clone()))
    } else if backfill.spec.suspend {
        Some(Obstacle::Suspended)
    } else if pipeline.spec.suspend {
        Some(Obstacle::PipelineSuspended)
    } else if cron_job.is_none() {
        Some(Obstacle::PipelineNotReady("its schema is not applied yet".to_owned()))
    } else if !has_account {
        Some(Obstacle::PipelineNotReady(
            "its ServiceAccount is missing, or is not controlled by it; see the pipeline's condition Ready".to_owned(),
        ))
    } else {
        None
    };
    (Some(ticks), obstacle)
}

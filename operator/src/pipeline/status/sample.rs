//! The metrics of a pipeline.

use userpipeline_api::{RunOutcome, UserPipeline, UserPipelineStatus, condition};

use crate::{metrics::PipelineSample, pipeline::observe::Observed};

pub fn pipeline_sample(pipeline: &UserPipeline, status: &UserPipelineStatus, observed: &Observed) -> PipelineSample {
    let has = |type_: &str, value: &str| status.conditions.iter().any(|c| c.type_ == type_ && c.status == value);
    let last_run = status.last_run.as_ref().and_then(|run| {
        let finished = run.finished_at.as_ref()?.0.as_duration().as_secs_f64();
        Some((run.outcome == RunOutcome::Succeeded, finished))
    });
    PipelineSample {
        owner: pipeline.spec.owner.clone().unwrap_or_default(),
        ready: has(condition::READY, "True"),
        stale: has(condition::DATA_FRESH, "False"),
        last_run,
        lag: status.lag,
        backlog: status.schedule.as_ref().map_or(0, |schedule| schedule.backlog),
        fetched: status.totals.as_ref().map_or(0, |totals| totals.fetched),
        // Each worker reports the totals of the whole pipeline; the highest ones are the newest.
        totals: observed
            .reports
            .values()
            .filter_map(|report| report.totals.clone())
            .max_by_key(|totals| totals.stored),
    }
}

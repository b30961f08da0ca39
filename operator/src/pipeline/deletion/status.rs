//! What is said of a pipeline that is being deleted. Pure.

use jiff::Timestamp;
use userpipeline_api::{UserPipeline, UserPipelineStatus, condition};

use super::decide::{Decision, Step};
use crate::pipeline::{apply::ApplyError, status::verdict::Verdict};

/// The word for it.
pub const DELETING: &str = "Deleting";

/// The status of a pipeline whose status was `pipeline.status` before.
pub fn of(pipeline: &UserPipeline, decision: &Decision, problem: Option<&ApplyError>, now: Timestamp) -> UserPipelineStatus {
    let before = pipeline.status.clone().unwrap_or_default();
    let generation = pipeline.metadata.generation;
    let (reason, message) = match (problem, &decision.step) {
        (Some(problem), _) => (problem.reason().to_owned(), problem.to_string()),
        (None, Step::Stop(left)) => (
            DELETING.to_owned(),
            format!("what could still write goes first: {}", left.join(", ")),
        ),
        (None, Step::Wait(Some((reason, message)), _)) => (
            reason.clone(),
            format!("{message}; the deletion is tried again. To keep the data and let the pipeline go, set spec.deletionPolicy to Retain"),
        ),
        (None, Step::LetGo) => (DELETING.to_owned(), "nothing is left to be done".to_owned()),
        (None, _) => (
            DELETING.to_owned(),
            "a Job deletes topic, subject, consumer group and tables (spec.deletionPolicy)".to_owned(),
        ),
    };
    let mut verdicts = vec![
        (condition::READY, Verdict::no(&reason, &message)),
        (condition::RECONCILING, Verdict::yes(&reason, &message)),
        (condition::STALLED, Verdict::no("NotStalled", "the pipeline is being deleted")),
    ];
    for type_ in [
        condition::SCHEMA_READY,
        condition::TOPIC_READY,
        condition::SCHEDULE_READY,
        condition::WORKERS_READY,
        condition::SUSPENDED,
        condition::DATA_FRESH,
    ] {
        verdicts.push((type_, Verdict::unknown(DELETING, "the pipeline is being deleted")));
    }
    UserPipelineStatus {
        observed_generation: generation,
        deletion: Some(decision.status.clone()),
        conditions: verdicts
            .into_iter()
            .map(|(type_, verdict)| verdict.condition(type_, generation, &before.conditions, now))
            .collect(),
        ..before
    }
}

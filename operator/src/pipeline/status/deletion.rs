//! The status of a pipeline that is being deleted. Pure.

use jiff::Timestamp;
use userpipeline_api::{UserPipeline, UserPipelineStatus, condition};

use super::verdict::Verdict;
use crate::pipeline::{
    apply::ApplyError,
    decide::deletion::{Decision, DeletionStep},
    model::reasons::DELETING,
};

/// The new status; `pipeline.status` is the previous one.
pub fn deletion_status(pipeline: &UserPipeline, decision: &Decision, problem: Option<&ApplyError>, now: Timestamp) -> UserPipelineStatus {
    let before = pipeline.status.clone().unwrap_or_default();
    let generation = pipeline.metadata.generation;
    let (reason, message) = match (problem, &decision.step) {
        (Some(problem), _) => (problem.reason().to_owned(), problem.to_string()),
        (None, DeletionStep::Stop(writers)) => (
            DELETING.to_owned(),
            format!("deleting children that can still write first: {}", writers.join(", ")),
        ),
        (None, DeletionStep::Wait(Some((reason, message)), _) | DeletionStep::AwaitStrimzi((reason, message))) => (
            reason.clone(),
            format!("{message}; the operator retries. To delete the pipeline and keep its data, set spec.deletionPolicy to Retain"),
        ),
        (None, DeletionStep::DeleteTopics { .. } | DeletionStep::AwaitTopics | DeletionStep::Record) => (
            DELETING.to_owned(),
            format!(
                "waiting until Strimzi has deleted the KafkaTopics {}",
                decision.status.kafka_topics.join(", ")
            ),
        ),
        (None, DeletionStep::Release) => (DELETING.to_owned(), "nothing is left to delete".to_owned()),
        (None, _) => (
            DELETING.to_owned(),
            "a Job is deleting topic, subject, consumer group and tables (spec.deletionPolicy)".to_owned(),
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
        condition::MODIFIED,
    ] {
        verdicts.push((type_, Verdict::unknown(DELETING, "the pipeline is being deleted")));
    }
    UserPipelineStatus {
        observed_generation: generation,
        deletion: Some(decision.status.clone()),
        connection_rollout: None,
        conditions: verdicts
            .into_iter()
            .map(|(type_, verdict)| verdict.condition(type_, generation, &before.conditions, now))
            .collect(),
        ..before
    }
}

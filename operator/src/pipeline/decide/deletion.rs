//! What is the next step of a pipeline that is being deleted? Pure.
//!
//! Everything that can still write goes first: schedule, runs, workers. Then a Job deletes the pipeline's data. Its result is
//! recorded before the Job is deleted. Then the KafkaTopics go, and only when they are gone, and that is recorded, the finalizer is
//! removed.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use userpipeline_api::{DeletionPolicy, DeletionStatus, report::DeletionReport};

use super::deletable_topics::{DeletableTopic, DeletableTopics, overdue};
use crate::pipeline::{
    model::Problem,
    observe::TaskJob,
    task::{State, TaskRecord, advance},
};

#[derive(Clone, Debug)]
pub struct DeletionInput<'a> {
    pub policy: DeletionPolicy,
    /// A schema Job was started at some time, so there may be data.
    pub may_have_data: bool,
    /// Children that can still write, for people.
    pub writers: Vec<String>,
    pub recorded: Option<&'a DeletionStatus>,
    pub jobs: &'a [TaskJob<DeletionReport>],
    /// The KafkaTopics that are deleted with the pipeline.
    pub topics: &'a DeletableTopics,
    /// Their Kafka cluster, as `NAMESPACE/NAME`.
    pub topics_cluster: &'a str,
    /// The hash of image and pod settings of the next Job.
    pub task_hash: &'a str,
}

#[derive(Clone, Debug, PartialEq)]
pub enum DeletionStep {
    /// Delete the children that can still write.
    Stop(Vec<String>),
    /// Create a Job; so many failed before it.
    Create(i32),
    /// Delete the Job: its result is recorded, or its pod settings are outdated.
    Clear,
    /// Wait for the Job, with what keeps it from succeeding; or for the next attempt.
    Wait(Option<Problem>, Option<Duration>),
    /// Delete these KafkaTopics of a Kafka cluster (`NAMESPACE/NAME`).
    DeleteTopics { cluster: String, names: Vec<String> },
    /// Wait until the KafkaTopics are gone.
    AwaitTopics,
    /// Wait for Strimzi, with what keeps the KafkaTopics from being deleted.
    AwaitStrimzi(Problem),
    /// Write the status, which is read back before the next step.
    Record,
    /// Remove the finalizer.
    Release,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    pub step: DeletionStep,
    /// To be written to the status.
    pub status: DeletionStatus,
}

pub fn decide(input: &DeletionInput<'_>, now: Timestamp) -> Decision {
    let status = input.recorded.cloned().unwrap_or_default();
    let has_topics = *input.topics != DeletableTopics::None || !status.kafka_topics.is_empty();
    let step = if input.policy == DeletionPolicy::Retain || (!input.may_have_data && !has_topics) {
        DeletionStep::Release
    } else if status.done_at.is_some() || (!input.may_have_data && input.writers.is_empty()) {
        return delete_topics(input, status, now);
    } else if !input.writers.is_empty() {
        DeletionStep::Stop(input.writers.clone())
    } else {
        return delete_data(input, &status, now);
    };
    Decision { step, status }
}

fn delete_data(input: &DeletionInput<'_>, recorded: &DeletionStatus, now: Timestamp) -> Decision {
    let step = advance("", input.task_hash, recorded, input.jobs, now);
    let failure = last_failure(&step.record);
    let mut status = step.record;
    let next = match step.state {
        _ if !step.delete.is_empty() => DeletionStep::Clear,
        // Recorded first: the status that is read back releases the pipeline.
        State::Done => {
            record_topics(&mut status, input.topics);
            DeletionStep::Wait(None, None)
        }
        State::Running(problem) => DeletionStep::Wait(problem.or(failure), None),
        State::BackingOff(wait) => DeletionStep::Wait(failure, Some(wait).filter(|_| input.jobs.iter().all(|job| job.gone))),
        State::Due(attempt) => DeletionStep::Create(attempt),
        State::Blocked => DeletionStep::Wait(failure, None),
    };
    Decision { step: next, status }
}

/// Last, because nothing can write to the topics any more, and a group is deleted before its topic. What is deleted is recorded before,
/// and that it is gone is recorded before the pipeline is released: an Event lists it.
fn delete_topics(input: &DeletionInput<'_>, mut status: DeletionStatus, now: Timestamp) -> Decision {
    let step = match input.topics {
        DeletableTopics::None if status.kafka_topics.is_empty() || status.topics_deleted_at.is_some() => DeletionStep::Release,
        DeletableTopics::None => {
            status.topics_deleted_at = Some(Time(now));
            DeletionStep::Record
        }
        DeletableTopics::Unknown(why) => DeletionStep::AwaitStrimzi(why.clone()),
        DeletableTopics::Some(_) if record_topics(&mut status, input.topics) => DeletionStep::Record,
        DeletableTopics::Some(topics) => next_of_topics(topics, input.topics_cluster, now),
    };
    Decision { step, status }
}

/// Returns whether the record did not have them all.
fn record_topics(status: &mut DeletionStatus, topics: &DeletableTopics) -> bool {
    let DeletableTopics::Some(topics) = topics else { return false };
    let before = status.kafka_topics.len();
    for topic in topics {
        if !status.kafka_topics.contains(&topic.name) {
            status.kafka_topics.push(topic.name.clone());
        }
    }
    status.kafka_topics.len() > before
}

fn next_of_topics(topics: &[DeletableTopic], cluster: &str, now: Timestamp) -> DeletionStep {
    let not_deleted = topics.iter().filter(|topic| topic.deleted_at.is_none());
    let names: Vec<String> = not_deleted.map(|topic| topic.name.clone()).collect();
    if !names.is_empty() {
        let cluster = cluster.to_owned();
        return DeletionStep::DeleteTopics { cluster, names };
    }
    match overdue(topics, cluster, now) {
        Some(problem) => DeletionStep::AwaitStrimzi(problem),
        None => DeletionStep::AwaitTopics,
    }
}

fn last_failure(status: &DeletionStatus) -> Option<Problem> {
    Some((status.failure_reason.clone()?, status.message.clone().unwrap_or_default()))
}

impl TaskRecord for DeletionStatus {
    type Report = DeletionReport;

    const KEEPS_FAILED_JOB: bool = false;

    fn is_done(&self, _: &str) -> bool {
        self.done_at.is_some()
    }

    fn failures(&self, _: &str) -> (i32, Option<Timestamp>) {
        (self.failed_attempts, self.failed_at.as_ref().map(|at| at.0))
    }

    fn has(&self, job: &TaskJob<DeletionReport>) -> bool {
        self.done_at.is_some() || self.failed_attempts > job.attempt
    }

    fn succeed(&mut self, _: &TaskJob<DeletionReport>, at: Timestamp, report: &DeletionReport) {
        *self = Self {
            done_at: Some(Time(at)),
            message: Some(report.message.clone()),
            ..Self::default()
        };
    }

    fn fail(&mut self, job: &TaskJob<DeletionReport>, at: Timestamp, report: &DeletionReport) {
        self.message = Some(report.message.clone());
        self.failed_attempts = job.attempt.saturating_add(1);
        self.failed_at = Some(Time(at));
        self.failure_reason = Some(report.reason.clone())
            .filter(|reason| !reason.is_empty())
            .or_else(|| Some("DeletionFailed".to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::observe::Progress;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn input<'a>(recorded: Option<&'a DeletionStatus>, job: Option<&'a TaskJob<DeletionReport>>) -> DeletionInput<'a> {
        DeletionInput {
            policy: DeletionPolicy::Delete,
            may_have_data: true,
            writers: Vec::new(),
            recorded,
            jobs: job.map_or(&[], std::slice::from_ref),
            topics: &DeletableTopics::None,
            topics_cluster: "kafka/events",
            task_hash: "t",
        }
    }

    fn job(attempt: i32, ended: Option<bool>) -> TaskJob<DeletionReport> {
        let report = DeletionReport {
            reason: "Reported".into(),
            message: "as reported".into(),
        };
        TaskJob {
            name: format!("users-deletion-{attempt}"),
            subject: String::new(),
            attempt,
            task_hash: "t".into(),
            created_at: at(0),
            deleting: false,
            gone: false,
            progress: match ended {
                None => Progress::Running { problem: None },
                Some(true) => Progress::Succeeded { at: at(3), report },
                Some(false) => Progress::Failed { at: at(3), report },
            },
        }
    }

    #[test]
    fn no_data_is_deleted_with_retain_or_where_there_is_none() {
        let retained = DeletionInput {
            policy: DeletionPolicy::Retain,
            writers: vec!["workers".into()],
            ..input(None, None)
        };
        assert_eq!(decide(&retained, at(0)).step, DeletionStep::Release);
        let never_began = DeletionInput {
            may_have_data: false,
            ..input(None, None)
        };
        assert_eq!(decide(&never_began, at(0)).step, DeletionStep::Release);
    }

    #[test]
    fn writers_go_first_then_a_job_deletes_the_data_then_the_pipeline_is_released() {
        let writing = DeletionInput {
            writers: vec!["workers".into()],
            ..input(None, None)
        };
        assert_eq!(decide(&writing, at(0)).step, DeletionStep::Stop(vec!["workers".into()]));
        assert_eq!(decide(&input(None, None), at(1)).step, DeletionStep::Create(0));
        assert_eq!(
            decide(&input(None, Some(&job(0, None))), at(2)).step,
            DeletionStep::Wait(None, None)
        );

        let decision = decide(&input(None, Some(&job(0, Some(true)))), at(4));
        assert_eq!(decision.step, DeletionStep::Wait(None, None), "recorded first");
        assert_eq!(decision.status.done_at, Some(Time(at(3))));
        let done = input(Some(&decision.status), None);
        assert_eq!(decide(&done, at(5)).step, DeletionStep::Release);
    }

    #[test]
    fn kafka_topics_go_after_the_job_and_are_awaited_and_recorded() {
        let done = DeletionStatus {
            done_at: Some(Time(at(3))),
            ..DeletionStatus::default()
        };
        let recorded = DeletionStatus {
            kafka_topics: vec!["a".into()],
            ..done.clone()
        };
        let gone = DeletionStatus {
            topics_deleted_at: Some(Time(at(9))),
            ..recorded.clone()
        };
        let topic = |deleted_at: Option<Timestamp>| DeletableTopics::Some(vec![DeletableTopic::named("a", deleted_at)]);
        let unknown = ("StrimziMissing".to_owned(), "m".to_owned());
        let delete = || DeletionStep::DeleteTopics {
            cluster: "kafka/events".into(),
            names: vec!["a".into()],
        };
        for (case, recorded, may_have_data, topics, expected) in [
            ("the Job goes first", None, true, topic(None), DeletionStep::Create(0)),
            ("then they are recorded", Some(&done), true, topic(None), DeletionStep::Record),
            ("then they are deleted", Some(&recorded), true, topic(None), delete()),
            (
                "also where no schema Job was started",
                Some(&recorded),
                false,
                topic(None),
                delete(),
            ),
            ("awaited", Some(&recorded), true, topic(Some(at(5))), DeletionStep::AwaitTopics),
            ("gone", Some(&recorded), true, DeletableTopics::None, DeletionStep::Record),
            (
                "gone without data",
                Some(&recorded),
                false,
                DeletableTopics::None,
                DeletionStep::Record,
            ),
            ("recorded", Some(&gone), true, DeletableTopics::None, DeletionStep::Release),
            ("there were none", Some(&done), true, DeletableTopics::None, DeletionStep::Release),
            (
                "unknown",
                Some(&recorded),
                true,
                DeletableTopics::Unknown(unknown.clone()),
                DeletionStep::AwaitStrimzi(unknown),
            ),
        ] {
            let input = DeletionInput {
                may_have_data,
                topics: &topics,
                ..input(recorded, None)
            };
            let decision = decide(&input, at(10));
            assert_eq!(decision.step, expected, "{case}");
            if decision.step == DeletionStep::Record {
                assert_eq!(decision.status.kafka_topics, ["a"], "{case}");
            }
        }
    }

    #[test]
    fn kafka_topics_that_stay_after_their_deletion_are_reported() {
        let recorded = DeletionStatus {
            done_at: Some(Time(at(3))),
            kafka_topics: vec!["a".into()],
            ..DeletionStatus::default()
        };
        let late = DeletionInput {
            topics: &DeletableTopics::Some(vec![DeletableTopic::named("a", Some(at(5)))]),
            ..input(Some(&recorded), None)
        };
        let DeletionStep::AwaitStrimzi((reason, _)) = decide(&late, at(400)).step else {
            panic!("it is overdue")
        };
        assert_eq!(reason, "EntityOperatorUnresponsive");
    }

    #[test]
    fn a_stuck_job_is_recreated_when_its_pod_settings_change() {
        let stuck = job(0, None);
        let fixed = DeletionInput {
            task_hash: "other",
            ..input(None, Some(&stuck))
        };
        assert_eq!(decide(&fixed, at(1)).step, DeletionStep::Clear);
    }

    #[test]
    fn a_failed_job_is_repeated_after_the_back_off_until_the_policy_is_retain() {
        let why = || Some(("Reported".to_owned(), "as reported".to_owned()));
        let failed = job(0, Some(false));
        let decision = decide(&input(None, Some(&failed)), at(4));
        assert_eq!(decision.step, DeletionStep::Wait(why(), None), "recorded first");
        let recorded = decision.status;
        assert_eq!(decide(&input(Some(&recorded), Some(&failed)), at(4)).step, DeletionStep::Clear);
        let waiting = decide(&input(Some(&recorded), None), at(4)).step;
        assert!(matches!(waiting, DeletionStep::Wait(reason, Some(_)) if reason == why()));
        assert_eq!(decide(&input(Some(&recorded), None), at(60)).step, DeletionStep::Create(1));

        let retained = DeletionInput {
            policy: DeletionPolicy::Retain,
            ..input(Some(&recorded), Some(&failed))
        };
        assert_eq!(decide(&retained, at(5)).step, DeletionStep::Release);
    }
}

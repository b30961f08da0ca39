//! Is a schema Job due? Pure. Only a success is remembered for good: a failed Job is
//! retried after the back-off of `task/back_off.rs`.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use userpipeline_api::{SchemaStatus, report::SchemaReport};

use crate::pipeline::{
    model::Problem,
    observe::{Progress, TaskJob},
    task::{Delete, State, TaskRecord, advance},
};

#[derive(Clone, Debug, Default, PartialEq)]
pub enum Finding {
    /// The desired schema is applied.
    #[default]
    Applied,
    /// A Job is due or runs; what keeps its pod from running, if anything.
    Applying(Option<Problem>),
    /// A Job for an older schema must go first.
    Waiting,
    /// The last Job failed; the next one follows after the back-off.
    Failed,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// To be written to the status.
    pub status: SchemaStatus,
    /// The attempt for which to create a Job.
    pub create: Option<i32>,
    pub delete: Vec<Delete>,
    /// When to reconcile again, if no event comes first.
    pub requeue: Option<Duration>,
    pub finding: Finding,
    /// What a Job that has just ended reported of the topic.
    pub topic_ready: Option<bool>,
}

impl Decision {
    /// Whether pods may use the desired schema.
    pub fn is_applied(&self) -> bool {
        self.finding == Finding::Applied
    }
}

/// Decides what is due so that the schema with the hash `desired` gets applied.
pub fn decide(desired: &str, task_hash: &str, recorded: &SchemaStatus, jobs: &[TaskJob<SchemaReport>], now: Timestamp) -> Decision {
    let step = advance(desired, task_hash, recorded, jobs, now);
    let has_failed = step.record.failures(desired).0 > 0;
    let retrying = if has_failed { Finding::Failed } else { Finding::Applying(None) };
    let is_outdated = |job: &TaskJob<SchemaReport>| !job.gone && job.subject != desired;
    let (create, finding) = match step.state {
        State::Done => (None, Finding::Applied),
        State::Running(problem) => (None, Finding::Applying(problem)),
        State::Due(attempt) => (Some(attempt), retrying),
        State::Blocked if jobs.iter().any(is_outdated) => (None, Finding::Waiting),
        State::BackingOff(_) | State::Blocked => (None, retrying),
    };
    Decision {
        create,
        finding,
        delete: step.delete,
        requeue: step.requeue,
        topic_ready: step.new_report.and_then(|report| report.topic_ready),
        status: step.record,
    }
}

/// A schema Job is due once more where the ids of the stores were never recorded, because a connection could change them unnoticed.
/// Every schema Job reports that of Kafka.
pub fn until_stores_are_known(mut recorded: SchemaStatus, desired: &str) -> SchemaStatus {
    if recorded.kafka_cluster.is_none() {
        recorded = once_more(recorded, desired);
    }
    recorded
}

/// A schema Job is due once more, although the schema is applied.
pub fn once_more(mut recorded: SchemaStatus, desired: &str) -> SchemaStatus {
    if recorded.is_done(desired) {
        recorded.start(desired);
    }
    recorded
}

/// What was recorded, while nothing may be applied.
pub fn held(recorded: SchemaStatus) -> Decision {
    let finding = match (&recorded.attempted_hash, recorded.failed_attempts) {
        (None, _) => Finding::Applied,
        (Some(_), 0) => Finding::Applying(None),
        (Some(_), _) => Finding::Failed,
    };
    Decision {
        status: recorded,
        finding,
        ..Decision::default()
    }
}

impl TaskRecord for SchemaStatus {
    type Report = SchemaReport;

    const KEEPS_FAILED_JOB: bool = true;

    fn is_done(&self, subject: &str) -> bool {
        self.applied_hash.as_deref() == Some(subject) && self.attempted_hash.is_none()
    }

    fn failures(&self, subject: &str) -> (i32, Option<Timestamp>) {
        if self.attempted_hash.as_deref() == Some(subject) && self.failed_attempts > 0 {
            (self.failed_attempts, self.failed_at.as_ref().map(|at| at.0))
        } else {
            (0, None)
        }
    }

    /// A Job that is older than the last applied schema counts as recorded.
    fn has(&self, job: &TaskJob<SchemaReport>) -> bool {
        let outdated = self.applied_at.as_ref().is_some_and(|applied| job.created_at < applied.0);
        match &job.progress {
            Progress::Running { .. } => false,
            Progress::Succeeded { at, .. } => {
                let is_applied = self.applied_hash.as_deref() == Some(&job.subject);
                outdated || (is_applied && self.applied_at.as_ref().is_some_and(|applied| applied.0 == *at))
            }
            Progress::Failed { .. } => {
                outdated || (self.attempted_hash.as_deref() == Some(&job.subject) && self.failed_attempts > job.attempt)
            }
        }
    }

    /// From now on the stores may have another schema than the last applied one.
    fn start(&mut self, subject: &str) {
        if self.attempted_hash.as_deref() == Some(subject) {
            return;
        }
        self.attempted_hash = Some(subject.to_owned());
        self.failed_attempts = 0;
        self.failed_at = None;
        self.failure_reason = None;
        self.failure_message = None;
    }

    fn allows_abort(&self) -> bool {
        self.attempted_hash.is_some()
    }

    fn succeed(&mut self, job: &TaskJob<SchemaReport>, at: Timestamp, report: &SchemaReport) {
        *self = Self {
            applied_hash: Some(job.subject.clone()),
            applied_at: Some(Time(at)),
            schema_id: report.schema_id.or(self.schema_id),
            partitions: report.partitions.or(self.partitions),
            topic_id: report.topic_id.clone().or_else(|| self.topic_id.take()),
            kafka_cluster: report.kafka_cluster.clone().or_else(|| self.kafka_cluster.take()),
            postgres_system: report.postgres_system.clone().or_else(|| self.postgres_system.take()),
            ..Self::default()
        };
    }

    fn fail(&mut self, job: &TaskJob<SchemaReport>, at: Timestamp, report: &SchemaReport) {
        self.start(&job.subject);
        self.failed_attempts = job.attempt.saturating_add(1);
        self.failed_at = Some(Time(at));
        self.failure_reason = Some(report.reason.clone());
        self.failure_message = Some(report.message.clone());
    }
}

#[cfg(test)]
mod tests;

//! The record of inspection Jobs.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use userpipeline_api::{InspectionStatus, TopicsStatus, names, report::InspectionReport};

use super::slot::Slot;
use crate::pipeline::{
    model::{Problem, StrimziTopics},
    observe::{Progress, TaskJob},
    task::TaskRecord,
};

/// What is inspected. After a KafkaTopic was deleted, its topic is inspected again: others may have created it since.
pub fn subject(declared: &StrimziTopics, recorded: &TopicsStatus, slots: &[Slot; 2]) -> String {
    let deleted = |(topic, slot): (&str, &Slot)| {
        let resource = recorded.resource(topic).filter(|_| slot.is_missing());
        resource.map_or_else(String::new, |resource| resource.uid.clone())
    };
    let deleted: Vec<String> = declared.names().into_iter().zip(slots).map(deleted).collect();
    names::hash(&format!(
        "{}\n{}\n{}\n{}",
        declared.cluster,
        declared.names().join("\n"),
        deleted.join("\n"),
        // What was found before may have changed by then.
        declared.settings.adopt
    ))
}

/// The record after a topic was found that must not be touched: as after a failure, it is inspected again, because that may change in Kafka.
pub fn refused(recorded: &InspectionStatus, subject: &str, (reason, message): &Problem) -> InspectionStatus {
    InspectionStatus {
        subject: None,
        existing: Vec::new(),
        attempted: Some(subject.to_owned()),
        failed_attempts: recorded.failed_attempts.saturating_add(1),
        failed_at: recorded.inspected_at.clone(),
        failure_reason: Some(reason.clone()),
        failure_message: Some(message.clone()),
        ..recorded.clone()
    }
}

/// Why the last Job for this subject failed.
pub fn failure(recorded: &InspectionStatus, subject: &str) -> Option<Problem> {
    let (failures, _) = recorded.failures(subject);
    (failures > 0).then(|| {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        (text(&recorded.failure_reason), text(&recorded.failure_message))
    })
}

impl TaskRecord for InspectionStatus {
    type Report = InspectionReport;

    const KEEPS_FAILED_JOB: bool = true;

    fn is_done(&self, subject: &str) -> bool {
        self.subject.as_deref() == Some(subject)
    }

    fn failures(&self, subject: &str) -> (i32, Option<Timestamp>) {
        if self.attempted.as_deref() == Some(subject) && self.failed_attempts > 0 {
            (self.failed_attempts, self.failed_at.as_ref().map(|at| at.0))
        } else {
            (0, None)
        }
    }

    /// A Job that is older than the last inspection counts as recorded.
    fn has(&self, job: &TaskJob<InspectionReport>) -> bool {
        let inspected_at = self.inspected_at.as_ref().map(|at| at.0);
        let is_outdated = inspected_at.is_some_and(|inspected| job.created_at < inspected);
        match &job.progress {
            Progress::Running { .. } => false,
            Progress::Succeeded { at, .. } => is_outdated || inspected_at == Some(*at),
            Progress::Failed { .. } => is_outdated || self.failures(&job.subject).0 > job.attempt,
        }
    }

    fn succeed(&mut self, job: &TaskJob<InspectionReport>, at: Timestamp, report: &InspectionReport) {
        *self = Self {
            subject: Some(job.subject.clone()),
            inspected_at: Some(Time(at)),
            kafka_cluster: report.kafka_cluster.clone(),
            existing: report.existing.clone(),
            // They count on where the result is refused.
            failed_attempts: self.failures(&job.subject).0,
            ..Self::default()
        };
    }

    fn fail(&mut self, job: &TaskJob<InspectionReport>, at: Timestamp, report: &InspectionReport) {
        self.attempted = Some(job.subject.clone());
        self.failed_attempts = job.attempt.saturating_add(1);
        self.failed_at = Some(Time(at));
        self.failure_reason = Some(report.reason.clone());
        self.failure_message = Some(report.message.clone());
    }
}

//! The Jobs that perform a task once: apply a schema, verify a drain, delete data.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use serde::de::DeserializeOwned;
use userpipeline_api::report::{ConnectionReport, DeletionReport, DrainReport, InspectionReport, SchemaReport};

use super::{
    jobs::{JobEnd, deleted_job_result, job_result, last_report, pod_end, pod_problem},
    observed::{Observed, is_of_component},
};
use crate::pipeline::model::{Problem, labels, labels::Component};

#[derive(Clone, Debug, PartialEq)]
pub struct TaskJob<R> {
    pub name: String,
    /// What it is for: the hash of a schema, the start of a suspension. Empty where the task has only one.
    pub subject: String,
    /// The hash of its image and pod settings.
    pub task_hash: String,
    /// How many Jobs for the subject failed before it.
    pub attempt: i32,
    pub created_at: Timestamp,
    /// It is being deleted, or was.
    pub deleting: bool,
    /// It no longer exists. Then it has ended.
    pub gone: bool,
    pub progress: Progress<R>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Progress<R> {
    Running { problem: Option<Problem> },
    Succeeded { at: Timestamp, report: R },
    Failed { at: Timestamp, report: R },
}

impl<R> TaskJob<R> {
    pub const fn is_running(&self) -> bool {
        matches!(self.progress, Progress::Running { .. })
    }

    /// When it ended; a running one ends after all others.
    pub const fn ended_at(&self) -> Timestamp {
        match &self.progress {
            Progress::Running { .. } => Timestamp::MAX,
            Progress::Succeeded { at, .. } | Progress::Failed { at, .. } => *at,
        }
    }
}

/// A report with a reason and a message, both empty where the pod left none.
trait Explained: DeserializeOwned + Default {
    fn explanation(&mut self) -> (&mut String, &mut String);
}

macro_rules! explained {
    ($($report:ident),*) => {$(
        impl Explained for $report {
            fn explanation(&mut self) -> (&mut String, &mut String) {
                (&mut self.reason, &mut self.message)
            }
        }
    )*};
}

explained!(SchemaReport, InspectionReport, DrainReport, DeletionReport, ConnectionReport);

pub fn schema_jobs(observed: &Observed) -> Vec<TaskJob<SchemaReport>> {
    let is_schema_job = |job: &Job| job.labels().contains_key(labels::SCHEMA_HASH);
    task_jobs(observed, is_schema_job, Some(labels::SCHEMA_HASH), labels::SCHEMA_ATTEMPT)
}

pub fn inspection_jobs(observed: &Observed) -> Vec<TaskJob<InspectionReport>> {
    let is_inspection_job = |job: &Job| is_of_component(job, Component::Inspection);
    task_jobs(observed, is_inspection_job, Some(labels::INSPECTION), labels::INSPECTION_ATTEMPT)
}

pub fn drain_jobs(observed: &Observed) -> Vec<TaskJob<DrainReport>> {
    let is_drain_job = |job: &Job| is_of_component(job, Component::Drain);
    task_jobs(observed, is_drain_job, Some(labels::DRAIN_SINCE), labels::DRAIN_ATTEMPT)
}

pub fn deletion_jobs(observed: &Observed) -> Vec<TaskJob<DeletionReport>> {
    task_jobs(observed, is_deletion_job, None, labels::DELETION_ATTEMPT)
}

pub fn check_jobs(observed: &Observed) -> Vec<TaskJob<ConnectionReport>> {
    let is_check_job = |job: &Job| is_of_component(job, Component::Check);
    task_jobs(observed, is_check_job, Some(labels::CHECK), labels::CHECK_ATTEMPT)
}

pub fn is_deletion_job(job: &Job) -> bool {
    is_of_component(job, Component::Deletion)
}

/// Those that exist, then those that were deleted.
fn task_jobs<R: Explained>(
    observed: &Observed,
    is_of_task: impl Fn(&Job) -> bool,
    subject: Option<&str>,
    attempt: &str,
) -> Vec<TaskJob<R>> {
    let live = observed.children.jobs.iter().map(|job| (None, job));
    let deleted = observed.deleted.jobs.iter().map(|(at, job)| (Some(*at), job));
    live.chain(deleted)
        .filter(|(_, job)| is_of_task(job))
        .map(|(deleted_at, job)| task_job(observed, job, subject, attempt, deleted_at))
        .collect()
}

fn task_job<R: Explained>(
    observed: &Observed,
    job: &Job,
    subject: Option<&str>,
    attempt: &str,
    deleted_at: Option<Timestamp>,
) -> TaskJob<R> {
    let label = |key: &str| job.labels().get(key).cloned().unwrap_or_default();
    let end = match deleted_at {
        Some(at) => deleted_job_result(observed, job, at),
        None => job_result(observed, job),
    };
    TaskJob {
        name: job.name_any(),
        subject: subject.map(label).unwrap_or_default(),
        task_hash: label(labels::TASK),
        attempt: label(attempt).parse().unwrap_or_default(),
        created_at: job.metadata.creation_timestamp.as_ref().map_or(Timestamp::MIN, |t| t.0),
        deleting: deleted_at.is_some() || job.metadata.deletion_timestamp.is_some(),
        gone: deleted_at.is_some() && end.is_some(),
        progress: progress(observed, job, end),
    }
}

fn progress<R: Explained>(observed: &Observed, job: &Job, end: Option<JobEnd>) -> Progress<R> {
    let Some(end) = end else {
        return Progress::Running {
            problem: pod_problem(observed, job),
        };
    };
    let mut report: R = last_report(observed, job, |_| true).unwrap_or_default();
    let (reason, message) = report.explanation();
    if (reason.is_empty() || end.was_deleted()) && !end.succeeded {
        (*reason, *message) = pod_end(observed, job, &end).unwrap_or_else(|| (end.reason.clone(), end.message.clone()));
    }
    *message = end.with_note(std::mem::take(message));
    if end.succeeded {
        Progress::Succeeded { at: end.at, report }
    } else {
        Progress::Failed { at: end.at, report }
    }
}

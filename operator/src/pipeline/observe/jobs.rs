//! How a Job ended, and what its pods reported.

use jiff::Timestamp;
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::ResourceExt;
use serde::de::DeserializeOwned;

use super::{container_end::ContainerEnd, observed::Observed, pods};
use crate::pipeline::model::{Problem, reasons::JOB_DELETED};

/// The reason of a Job that ran out of time; its pod was killed, so how the pod ended explains nothing.
const DEADLINE_EXCEEDED: &str = "DeadlineExceeded";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobEnd {
    pub succeeded: bool,
    pub at: Timestamp,
    /// From the Job's condition.
    pub reason: String,
    /// From the Job's condition.
    pub message: String,
    /// What injected containers did to the Job, for the message of its result.
    pub note: Option<String>,
}

impl JobEnd {
    /// The Job was deleted before it ended; its pod was killed, so what that reports explains nothing.
    pub fn was_deleted(&self) -> bool {
        self.reason == JOB_DELETED
    }

    /// `message` of the result, with the note.
    pub fn with_note(&self, message: String) -> String {
        match &self.note {
            Some(note) if message.is_empty() => note.clone(),
            Some(note) => format!("{message}; {note}"),
            None => message,
        }
    }
}

impl From<ContainerEnd> for JobEnd {
    fn from(end: ContainerEnd) -> Self {
        Self {
            succeeded: end.terminated.exit_code == 0,
            at: end.at(),
            reason: end.terminated.reason.clone().unwrap_or_default(),
            message: String::new(),
            note: Some(end.advice()),
        }
    }
}

/// How the Job ended, by what Kubernetes or the operator wrote to it.
pub fn job_end(job: &Job) -> Option<JobEnd> {
    if let Some(end) = ContainerEnd::recorded(job) {
        return Some(end.into());
    }
    let status = job.status.as_ref()?;
    let condition = status
        .conditions
        .as_ref()?
        .iter()
        .find(|c| c.status == "True" && matches!(c.type_.as_str(), "Complete" | "Failed"))?;
    let succeeded = condition.type_ == "Complete";
    let at = status
        .completion_time
        .as_ref()
        .filter(|_| succeeded)
        .or(condition.last_transition_time.as_ref())
        .map_or(Timestamp::MIN, |t| t.0);
    Some(JobEnd {
        succeeded,
        at,
        reason: condition.reason.clone().unwrap_or_default(),
        message: condition.message.clone().unwrap_or_default(),
        note: None,
    })
}

/// How the Job ended. For Kubernetes, a Job whose sidecar fails has failed; here, its own container decides.
pub fn job_result(observed: &Observed, job: &Job) -> Option<JobEnd> {
    let mut end = job_end(job)?;
    let has_succeeded = |pod: &&Pod| pods::own_end(pod).is_some_and(|end| end.exit_code == 0);
    // At a deadline, also a container that exits with 0 may have been stopped before it was done.
    if !end.succeeded
        && end.reason != DEADLINE_EXCEEDED
        && let Some(pod) = observed.all_pods_of(job).into_iter().find(has_succeeded)
    {
        end.succeeded = true;
        let failed: Vec<String> = pods::failed_sidecars(pod)
            .map(|(name, code)| format!("{name} (exit code {code})"))
            .collect();
        end.note = (!failed.is_empty()).then(|| format!("for Kubernetes the Job failed, because of container {}", failed.join(", ")));
    }
    Some(end)
}

/// How a Job ended that was deleted at this time; `None` while a pod of it still works.
pub fn deleted_job_result(observed: &Observed, job: &Job, at: Timestamp) -> Option<JobEnd> {
    if let Some(end) = job_result(observed, job) {
        return Some(end);
    }
    if observed.pods_of(job).into_iter().any(pods::is_live) {
        return None;
    }
    let pods = observed.all_pods_of(job);
    let has_succeeded = pods.into_iter().filter_map(pods::own_end).any(|end| end.exit_code == 0);
    let message = format!(
        "Job {} was deleted while it ran, not by the operator: find out who deletes Jobs (a user, a policy, a clean-up controller)",
        job.name_any()
    );
    Some(JobEnd {
        succeeded: has_succeeded,
        at,
        reason: if has_succeeded { String::new() } else { JOB_DELETED.to_owned() },
        message: if has_succeeded { String::new() } else { message },
        note: None,
    })
}

/// What keeps a Job's pods from ending.
pub fn pod_problem(observed: &Observed, job: &Job) -> Option<Problem> {
    let problem = observed.pods_of(job).into_iter().find_map(pods::problem);
    problem.or_else(|| observed.refusals.problem(job))
}

/// The report of the last pod that left one and satisfies `is_complete`.
pub fn last_report<R: DeserializeOwned>(observed: &Observed, job: &Job, is_complete: impl Fn(&R) -> bool) -> Option<R> {
    let recorded = ContainerEnd::recorded(job).map(|end| end.terminated);
    let ends = observed.all_pods_of(job).into_iter().filter_map(|pod| pods::own_end(pod).cloned());
    let reports = ends.chain(recorded).filter_map(|end| pods::report::<R>(&end));
    let complete = reports.filter(|(_, report)| is_complete(report));
    complete.max_by_key(|(at, _)| *at).map(|(_, report)| report)
}

/// How the pods of a failed Job ended, where that explains the failure.
pub fn pod_end(observed: &Observed, job: &Job, end: &JobEnd) -> Option<Problem> {
    if end.reason == DEADLINE_EXCEEDED {
        // Unless there never was a pod.
        return observed.refusals.problem(job);
    }
    if end.succeeded || end.was_deleted() {
        return None;
    }
    if let Some(recorded) = ContainerEnd::recorded(job) {
        return pods::end(&recorded.pod, &recorded.terminated);
    }
    let mut pods = observed.all_pods_of(job).into_iter();
    pods.find_map(|pod| pods::end(&pod.name_any(), pods::own_end(pod)?))
}

/// An unfinished Job whose own container has ended while others run.
pub fn held_open(observed: &Observed, job: &Job) -> Option<ContainerEnd> {
    let is_suspended = job.spec.as_ref().and_then(|spec| spec.suspend) == Some(true);
    if is_suspended || job.metadata.deletion_timestamp.is_some() || job_end(job).is_some() {
        return None;
    }
    let mut running = observed
        .pods_of(job)
        .into_iter()
        .filter(|pod| pods::is_live(pod) && !pods::is_terminating(pod));
    running.find_map(|pod| {
        let terminated = pods::own_end(pod)?.clone();
        let held_by: Vec<String> = pods::running_sidecars(pod).map(str::to_owned).collect();
        (!held_by.is_empty()).then(|| ContainerEnd {
            pod: pod.name_any(),
            held_by,
            terminated,
        })
    })
}

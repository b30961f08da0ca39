//! How a Job ended, and what its pods reported.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use serde::de::DeserializeOwned;

use super::{observed::Observed, pods};
use crate::pipeline::model::Problem;

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
}

pub fn job_end(job: &Job) -> Option<JobEnd> {
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
    })
}

/// What keeps a Job's pods from ending.
pub fn pod_problem(observed: &Observed, job: &Job) -> Option<Problem> {
    observed.pods_of(job).into_iter().find_map(pods::problem)
}

/// The report of the last pod that left one and satisfies `is_complete`.
pub fn last_report<R: DeserializeOwned>(observed: &Observed, job: &Job, is_complete: impl Fn(&R) -> bool) -> Option<R> {
    let reports = observed.pods_of(job).into_iter().filter_map(pods::termination_report::<R>);
    let complete = reports.filter(|(_, report)| is_complete(report));
    complete.max_by_key(|(at, _)| *at).map(|(_, report)| report)
}

/// How the pods of a failed Job ended, where that explains the failure.
pub fn pod_end(observed: &Observed, job: &Job, end: &JobEnd) -> Option<Problem> {
    if end.succeeded || end.reason == DEADLINE_EXCEEDED {
        return None;
    }
    observed.pods_of(job).into_iter().find_map(pods::end)
}

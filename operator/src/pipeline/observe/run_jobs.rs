//! The Jobs of runs: what each is for, and how it ended.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use userpipeline_api::{DataInterval, Run, RunKind, RunOutcome, names, report::RunReport};

use super::{
    jobs::{JobEnd, deleted_job_result, job_end, job_result, last_report, pod_end},
    observed::Observed,
    pods,
};
use crate::pipeline::model::{Problem, elapsed, labels, reasons::JOB_DELETED, whole_seconds};

/// A pod may wait this long for a node or its image before it is reported.
const STARTS_WITHIN: Duration = Duration::from_secs(30);
const SCHEDULED_AT: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

#[derive(Clone, Debug)]
pub struct RunJob {
    pub job: Arc<Job>,
    pub kind: RunKind,
    /// The tick at which it was due; a manual run has none.
    pub due: Option<Timestamp>,
    /// Set on Jobs that the operator creates.
    pub interval: Option<DataInterval>,
    /// `spec.runNow.nonce` of a requested run.
    pub nonce: Option<String>,
    /// The Job no longer exists. Then the run has ended.
    pub gone: bool,
    /// The run's result, once it has ended.
    pub ended: Option<Run>,
}

impl RunJob {
    pub fn name(&self) -> String {
        self.job.name_any()
    }

    fn was_deleted(&self) -> bool {
        self.ended.as_ref().is_some_and(|ended| ended.reason == JOB_DELETED)
    }

    pub const fn is_of_schedule(&self) -> bool {
        matches!(self.kind, RunKind::Scheduled | RunKind::CatchUp)
    }
}

/// The Jobs of runs, and after them those that were deleted. `cron_job` is the name of the CronJob, which is the prefix of the
/// names of scheduled runs.
pub fn run_jobs(cron_job: &str, observed: &Observed) -> Vec<RunJob> {
    let mut runs = backfill_runs(cron_job, observed);
    // They are deleted with their back-fill.
    runs.retain(|run| run.kind != RunKind::Backfill || !run.was_deleted());
    runs
}

/// The same for the back-fill to which they belong.
pub fn backfill_runs(cron_job: &str, observed: &Observed) -> Vec<RunJob> {
    let live = observed.runs().map(|job| run_job(cron_job, job, observed, None));
    let deleted = observed.deleted_runs().filter(|(_, job)| !is_expected(cron_job, job, observed));
    live.chain(deleted.map(|(at, job)| run_job(cron_job, job, observed, Some(*at))))
        .collect()
}

/// Whether the spec explains that the Job was deleted before it ended: its run is no failure.
fn is_expected(cron_job: &str, job: &Job, observed: &Observed) -> bool {
    let is_suspended = job.spec.as_ref().and_then(|spec| spec.suspend) == Some(true);
    let policy = observed
        .cron_job(cron_job)
        .and_then(|cron_job| cron_job.spec.as_ref()?.concurrency_policy.as_deref());
    let is_of_cron_job = job.owner_references().iter().any(|owner| owner.kind == "CronJob");
    job_end(job).is_none() && (is_suspended || (is_of_cron_job && policy == Some("Replace")))
}

/// A Job that was deleted at `deleted_at`, or exists.
fn run_job(cron_job: &str, job: &Arc<Job>, observed: &Observed, deleted_at: Option<Timestamp>) -> RunJob {
    let end = match deleted_at {
        Some(at) => deleted_job_result(observed, job, at),
        None => job_result(observed, job),
    };
    let due = due(cron_job, job);
    let kind = job.labels().get(labels::RUN_KIND).and_then(|kind| kind.parse().ok());
    let kind = kind.unwrap_or(if due.is_some() { RunKind::Scheduled } else { RunKind::Manual });
    // Catch-up may reach further back than the ticks that a name can carry.
    let interval_end = || interval(job).filter(|_| kind == RunKind::CatchUp).map(|interval| interval.end);
    let due = due.or_else(interval_end);
    RunJob {
        kind,
        due: due.filter(|_| matches!(kind, RunKind::Scheduled | RunKind::CatchUp)),
        interval: interval(job),
        nonce: job.labels().get(labels::NONCE).cloned(),
        gone: deleted_at.is_some() && end.is_some(),
        ended: end.map(|end| result(kind, due, job, &end, observed)),
        job: job.clone(),
    }
}

fn result(kind: RunKind, due: Option<Timestamp>, job: &Job, end: &JobEnd, observed: &Observed) -> Run {
    let report = run_report(observed, job).unwrap_or_default();
    let outcome = if end.succeeded { RunOutcome::Succeeded } else { RunOutcome::Failed };
    let pod_end = pod_end(observed, job, end);
    let (reason, message) = if report.reason.is_empty() || end.was_deleted() {
        let or = |text: String, default: &str| if text.is_empty() { default.to_owned() } else { text };
        pod_end.unwrap_or_else(|| {
            (
                or(end.reason.clone(), outcome.as_str()),
                or(end.message.clone(), "its pod left no termination message"),
            )
        })
    } else {
        (report.reason, report.message)
    };
    Run {
        job: job.name_any(),
        run_id: Some(report.run_id).filter(|id| !id.is_empty()),
        kind: report.kind.unwrap_or(kind),
        interval: report.interval.or_else(|| interval(job).map(Into::into)),
        attempt: report.attempt,
        scheduled_at: report.scheduled_at.or(due).map(whole_seconds),
        started_at: job
            .status
            .as_ref()
            .and_then(|status| status.start_time.clone())
            .or_else(|| report.started_at.map(whole_seconds)),
        finished_at: Some(whole_seconds(end.at)),
        outcome,
        reason,
        message: end.with_note(message),
        warning: report.warning.filter(|_| end.succeeded),
        landed: report.landed,
        filtered: report.filtered,
        published: report.published,
        rejected: report.rejected,
    }
}

/// The report of the last pod of a run's Job.
pub fn run_report(observed: &Observed, job: &Job) -> Option<RunReport> {
    last_report(observed, job, |report: &RunReport| !report.reason.is_empty())
}

fn interval(job: &Job) -> Option<DataInterval> {
    let read = |key: &str| job.annotations().get(key)?.parse().ok();
    Some(DataInterval {
        start: read(labels::INTERVAL_START)?,
        end: read(labels::INTERVAL_END)?,
    })
}

/// A Job of a CronJob has its tick in an annotation and in its name; any other is a manual run.
fn due(cron_job: &str, job: &Job) -> Option<Timestamp> {
    let annotated = job.annotations().get(SCHEDULED_AT).and_then(|text| text.parse().ok());
    annotated.or_else(|| names::tick_of_job(cron_job, &job.name_any()))
}

/// What keeps a run, of a back-fill or another one, from starting.
pub fn run_problem(observed: &Observed, of_backfill: bool, now: Timestamp) -> Option<Problem> {
    active_runs(observed, of_backfill).find_map(|job| {
        let refused = observed.refusals.problem(job);
        refused.or_else(|| {
            let late = stuck_pods(observed, job).find(|(created, _)| elapsed(*created, now) >= STARTS_WITHIN);
            late.map(|(_, problem)| problem)
        })
    })
}

/// When a problem that is not reported yet will be.
pub fn run_problem_after(observed: &Observed, now: Timestamp) -> Option<Duration> {
    let stuck = active_runs(observed, false).flat_map(|job| stuck_pods(observed, job));
    let waits = stuck.map(|(created, _)| STARTS_WITHIN.saturating_sub(elapsed(created, now)));
    waits.filter(|wait| !wait.is_zero()).min()
}

fn active_runs(observed: &Observed, of_backfill: bool) -> impl Iterator<Item = &Arc<Job>> {
    let is_suspended = |job: &Job| job.spec.as_ref().and_then(|spec| spec.suspend) == Some(true);
    observed
        .runs()
        .filter(move |job| job_end(job).is_none() && !is_suspended(job) && job.labels().contains_key(labels::BACKFILL) == of_backfill)
}

/// Pods of a run that cannot start, and when each was created.
fn stuck_pods<'a>(observed: &'a Observed, job: &'a Job) -> impl Iterator<Item = (Timestamp, Problem)> + 'a {
    let pods = observed.pods_of(job).into_iter();
    pods.filter_map(|pod| Some((pod.metadata.creation_timestamp.as_ref()?.0, pods::problem(pod)?)))
}

/// Runs that have not ended. A run that was stopped with its pipeline does not count once its pods are gone.
pub fn unfinished_runs(observed: &Observed) -> Vec<String> {
    let unfinished = observed.runs().filter(|job| {
        let is_suspended = job.spec.as_ref().and_then(|spec| spec.suspend) == Some(true);
        let is_stopped = job.annotations().contains_key(labels::STOPPED) && is_suspended;
        let has_pods = observed.pods_of(job).into_iter().any(pods::is_live);
        job_end(job).is_none() && (!is_stopped || has_pods)
    });
    unfinished.map(|job| job.name_any()).collect()
}

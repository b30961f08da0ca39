//! The Jobs of runs: what each is for, and how it has ended.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::{api::batch::v1::Job, apimachinery::pkg::apis::meta::v1::Time};
use kube::ResourceExt;
use userpipeline_api::{DataInterval, Run, RunKind, report::RunReport};

use super::{build::labels, dereference, dereference::Observed, pods};

const SCHEDULED_AT: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

/// The Job of a run, as seen.
#[derive(Clone, Debug)]
pub struct SeenRun {
    /// The Job.
    pub job: Arc<Job>,
    /// Why it happens.
    pub kind: RunKind,
    /// The tick at which it was due; none for a manual run.
    pub due: Option<Timestamp>,
    /// Its interval, where the operator has given it one.
    pub interval: Option<DataInterval>,
    /// The request of `spec.runNow` that it answers.
    pub nonce: Option<String>,
    /// How it has ended, if it has.
    pub ended: Option<Run>,
}

impl SeenRun {
    /// Its Job's name.
    pub fn name(&self) -> String {
        self.job.name_any()
    }

    /// Whether it belongs to the schedule.
    pub const fn is_of_schedule(&self) -> bool {
        matches!(self.kind, RunKind::Scheduled | RunKind::CatchUp)
    }
}

/// The runs whose Jobs there are. `cron_job` is the name of the CronJob, with which the names of scheduled runs begin.
pub fn seen(cron_job: &str, observed: &Observed) -> Vec<SeenRun> {
    let runs = observed.runs().map(|job| {
        let due = due(cron_job, job);
        let kind = job.labels().get(labels::RUN_KIND).and_then(|kind| kind.parse().ok());
        let kind = kind.unwrap_or(if due.is_some() { RunKind::Scheduled } else { RunKind::Manual });
        SeenRun {
            kind,
            due: due.filter(|_| matches!(kind, RunKind::Scheduled | RunKind::CatchUp)),
            interval: interval(job),
            nonce: job.labels().get(labels::NONCE).cloned(),
            ended: ended(kind, due, job, observed),
            job: job.clone(),
        }
    });
    runs.collect()
}

/// How a run has ended.
fn ended(kind: RunKind, due: Option<Timestamp>, job: &Job, observed: &Observed) -> Option<Run> {
    let end = dereference::end(job)?;
    let told = report(observed, job).unwrap_or_default();
    let outcome = if end.succeeded { "Succeeded" } else { "Failed" };
    let (reason, message) = if told.reason.is_empty() {
        let pods = observed.pods_of(job);
        let ended = pods
            .iter()
            .find_map(|pod| pods::end(pod))
            .filter(|_| !end.succeeded && end.reason != "DeadlineExceeded");
        let words = |text: String, otherwise: &str| if text.is_empty() { otherwise.to_owned() } else { text };
        ended.unwrap_or_else(|| (words(end.reason, outcome), words(end.message, "its pod has left no message")))
    } else {
        (told.reason, told.message)
    };
    Some(Run {
        job: job.name_any(),
        run_id: Some(told.run_id).filter(|id| !id.is_empty()),
        kind: told.kind.unwrap_or(kind),
        interval: told.interval.or_else(|| interval(job).map(Into::into)),
        attempt: told.attempt,
        scheduled_at: told.scheduled_at.or(due).map(seconds),
        started_at: job
            .status
            .as_ref()
            .and_then(|status| status.start_time.clone())
            .or_else(|| told.started_at.map(seconds)),
        finished_at: Some(seconds(end.at)),
        outcome: outcome.to_owned(),
        reason,
        message,
        landed: told.landed,
        published: told.published,
        rejected: told.rejected,
    })
}

/// What the last pod of a Job has told.
pub fn report(observed: &Observed, job: &Job) -> Option<RunReport> {
    let told = observed.pods_of(job).into_iter().filter_map(pods::last_words::<RunReport>);
    told.filter(|(_, report)| !report.reason.is_empty())
        .max_by_key(|(at, _)| *at)
        .map(|(_, report)| report)
}

/// The interval that the operator has given a Job.
fn interval(job: &Job) -> Option<DataInterval> {
    let read = |key: &str| job.annotations().get(key)?.parse().ok();
    Some(DataInterval {
        start: read(labels::INTERVAL_START)?,
        end: read(labels::INTERVAL_END)?,
    })
}

/// A CronJob's Job tells in its annotation, and in its name, when it was due; any other is a manual run.
fn due(cron_job: &str, job: &Job) -> Option<Timestamp> {
    let annotated = job.annotations().get(SCHEDULED_AT).and_then(|text| text.parse().ok());
    annotated.or_else(|| {
        let minutes: i64 = job.name_any().strip_prefix(cron_job)?.strip_prefix('-')?.parse().ok()?;
        Timestamp::from_second(minutes.checked_mul(60)?).ok()
    })
}

/// The name of the Job of a scheduled run: the one that the CronJob would give it, so that there is one of it at most.
pub fn scheduled_name(cron_job: &str, due: Timestamp) -> String {
    format!("{cron_job}-{}", due.as_second() / 60)
}

/// The apiserver keeps seconds.
pub fn seconds(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

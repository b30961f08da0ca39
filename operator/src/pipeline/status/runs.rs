//! How the run that ended last has ended.

use jiff::Timestamp;
use k8s_openapi::{api::batch::v1::Job, apimachinery::pkg::apis::meta::v1::Time};
use kube::ResourceExt;
use userpipeline_api::{LastRun, report::RunReport};

use crate::pipeline::{dereference, dereference::Observed, pods};

const SCHEDULED_AT: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

/// The run that ended last; what is known of it stays when its Job and pods are gone.
pub fn last(cron_job: &str, before: Option<&LastRun>, observed: &Observed) -> Option<LastRun> {
    let newest = observed
        .runs()
        .filter_map(|job| Some((dereference::end(job)?, job)))
        .max_by_key(|(end, job)| (end.at, job.name_any()));
    let Some((end, job)) = newest else { return before.cloned() };
    // A Job of the same name that was made anew ends at another time.
    let same = |run: &LastRun| run.job == job.name_any() && run.finished_at == Some(seconds(end.at));
    let known = before.filter(|run| same(run) || run.finished_at.as_ref().is_some_and(|t| t.0 > end.at));
    let report = report(observed, job);
    if let (Some(known), None) = (known, &report) {
        return Some(known.clone());
    }
    if let Some(known) = known.filter(|run| !same(run)) {
        return Some(known.clone());
    }
    let told = report.unwrap_or_default();
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
    Some(LastRun {
        job: job.name_any(),
        run_id: Some(told.run_id).filter(|id| !id.is_empty()),
        scheduled_at: told.scheduled_at.or_else(|| scheduled_at(cron_job, job)).map(seconds),
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

/// A CronJob's Job tells in its annotation, and in its name, when it was due; any other is a manual run.
fn scheduled_at(cron_job: &str, job: &Job) -> Option<Timestamp> {
    let annotated = job.annotations().get(SCHEDULED_AT).and_then(|text| text.parse().ok());
    annotated.or_else(|| {
        let minutes: i64 = job.name_any().strip_prefix(cron_job)?.strip_prefix('-')?.parse().ok()?;
        Timestamp::from_second(minutes.checked_mul(60)?).ok()
    })
}

/// The apiserver keeps seconds.
fn seconds(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

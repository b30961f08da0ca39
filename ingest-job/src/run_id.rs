//! Which run this is, why it happens, and for which data interval.
//!
//! A Job that the operator makes tells it by arguments. The Job of a CronJob is told nothing: its name says when it was due.

use std::collections::BTreeMap;

use jiff::Timestamp;
use userpipeline_api::{DataInterval, RunKind, Schedule, Ticks, first_after_start, names};
use uuid::Uuid;

/// What a run is told when it starts.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// The Job this runs in.
    pub job: Option<String>,
    /// The Job's uid.
    pub job_uid: Option<String>,
    /// The CronJob whose Jobs are scheduled runs.
    pub cronjob: Option<String>,
    /// The run's id.
    pub run_id: Option<String>,
    /// Why it happens.
    pub kind: Option<RunKind>,
    /// Its data interval.
    pub interval: Option<DataInterval>,
    /// Other values than `spec.schedule.arguments` has.
    pub arguments: BTreeMap<String, String>,
    /// A run that another Job has tried in vain is left as it is.
    pub skip_failed: bool,
}

/// What the ledger knows of this run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The id: the scheduled time, what the operator calls it, or the Job's uid.
    pub id: String,
    /// Why it happens.
    pub kind: RunKind,
    /// Its data interval; none where the schedule has none.
    pub interval: Option<DataInterval>,
    /// The time it was scheduled for; none for a manual run.
    pub scheduled_at: Option<Timestamp>,
    /// Values for placeholders.
    pub arguments: BTreeMap<String, String>,
    /// A run that another Job has tried in vain is left as it is.
    pub skip_failed: bool,
}

impl Run {
    /// The run of a Job. `<cronjob>-<epoch minutes>` is a scheduled run, the same one however often its Job is made; any
    /// other Job is a manual run of its own; without a Job, each start is a run of its own. A manual run's interval is the
    /// last one that is complete.
    pub fn of(told: &Told, schedule: Option<(&Schedule, &Ticks)>, now: Timestamp) -> Self {
        let mut arguments = schedule.map(|(schedule, _)| schedule.arguments.clone()).unwrap_or_default();
        arguments.extend(told.arguments.clone());
        let ticks = schedule.map(|(_, ticks)| ticks);
        let due = match (&told.job, &told.cronjob) {
            (Some(job), Some(cronjob)) => names::tick_of_job(cronjob, job),
            _ => None,
        };
        let interval = told.interval.or_else(|| match due {
            Some(due) => DataInterval::ending(due, ticks?),
            None => DataInterval::complete_at(now, ticks?),
        });
        let id = match (&told.run_id, due, &told.job, &told.job_uid) {
            (Some(id), ..) if !id.is_empty() => id.clone(),
            (_, Some(due), ..) => due.to_string(),
            // A Job's name may be used again after it was deleted, its uid never: without the uid there is nothing to go by.
            (_, _, Some(job), Some(uid)) if !job.is_empty() && !uid.is_empty() => uid.clone(),
            _ => Uuid::new_v4().to_string(),
        };
        let kind = if due.is_some() { RunKind::Scheduled } else { RunKind::Manual };
        Self {
            id,
            kind: told.kind.unwrap_or(kind),
            interval,
            scheduled_at: due,
            arguments,
            skip_failed: told.skip_failed,
        }
    }

    /// Whether a run of the schedule is for an interval that begins before the schedule's start: the CronJob knows of none.
    pub fn is_before_start(&self, schedule: &Schedule, ticks: &Ticks) -> bool {
        let (Some(start), Some(due), RunKind::Scheduled) = (&schedule.start_at, self.scheduled_at, self.kind) else {
            return false;
        };
        first_after_start(start.0, ticks).is_none_or(|first| due < first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(job: Option<&str>, uid: Option<&str>, cronjob: Option<&str>) -> Told {
        let text = |text: Option<&str>| text.map(str::to_owned);
        Told {
            job: text(job),
            job_uid: text(uid),
            cronjob: text(cronjob),
            ..Told::default()
        }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn daily(more: &serde_json::Value) -> Schedule {
        let mut schedule = serde_json::json!({"cron": "0 10 * * *"});
        schedule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(schedule).unwrap()
    }

    fn run(told: &Told, schedule: &Schedule) -> Run {
        let ticks = Ticks::read(&schedule.cron, &schedule.time_zone).unwrap();
        Run::of(told, Some((schedule, &ticks)), at("2024-05-05T12:00:00Z"))
    }

    #[test]
    fn a_cron_jobs_job_is_the_run_of_its_scheduled_time() {
        for (job, cronjob, id) in [
            ("users-ingest-28228920", "users-ingest", "2023-09-03T10:00:00Z"),
            // A CronJob whose own name ends in digits.
            ("x-1-28228920", "x-1", "2023-09-03T10:00:00Z"),
            ("x-29000000", "x", "2025-02-19T21:20:00Z"),
        ] {
            let run = run(&told(Some(job), Some("uid"), Some(cronjob)), &daily(&serde_json::json!({})));
            assert_eq!((run.id.as_str(), run.kind), (id, RunKind::Scheduled), "{job}");
            assert_eq!(run.scheduled_at.map(|t| t.to_string()).as_deref(), Some(id), "{job}");
        }
    }

    #[test]
    fn a_scheduled_run_has_the_interval_that_ends_when_it_is_due() {
        let run = run(
            &told(Some("users-ingest-28228920"), Some("uid"), Some("users-ingest")),
            &daily(&serde_json::json!({})),
        );
        let interval = run.interval.unwrap();
        assert_eq!(
            (interval.start, interval.end),
            (at("2023-09-02T10:00:00Z"), at("2023-09-03T10:00:00Z"))
        );
    }

    #[test]
    fn any_other_job_is_a_manual_run_for_the_last_interval_that_is_complete() {
        for (job, cronjob) in [
            ("users-ingest-manual-abc", Some("users-ingest")),
            ("users-ingest-28228920", None),
            ("users-ingest-28228920", Some("other")),
            ("users-ingest-28228920", Some("users")),
            ("users-ingest28228920", Some("users-ingest")),
            ("users-ingest-", Some("users-ingest")),
            ("users-ingest", Some("users-ingest")),
            ("users-ingest-1", Some("users-ingest")),
            ("users-ingest-028228920", Some("users-ingest")),
            ("users-ingest-+28228920", Some("users-ingest")),
            ("users-ingest--28228920", Some("users-ingest")),
            ("users-ingest-28228920-x", Some("users-ingest")),
            ("users-ingest-99999999999999999999", Some("users-ingest")),
            ("users-ingest-28228920", Some("")),
        ] {
            let run = run(&told(Some(job), Some("uid"), cronjob), &daily(&serde_json::json!({})));
            assert_eq!(
                (run.id.as_str(), run.kind, run.scheduled_at),
                ("uid", RunKind::Manual, None),
                "{job} of {cronjob:?}"
            );
            assert_eq!(run.interval.unwrap().end, at("2024-05-05T10:00:00Z"));
        }
    }

    #[test]
    fn without_a_job_each_start_is_a_run_of_its_own() {
        for (job, uid) in [
            (None, None),
            (None, Some("uid")),
            (Some("by-hand"), None),
            (Some(""), Some("uid")),
            (Some("by-hand"), Some("")),
        ] {
            let start = || Run::of(&told(job, uid, None), None, Timestamp::UNIX_EPOCH);
            let (a, b) = (start(), start());
            assert_ne!(a.id, b.id);
            assert!(Uuid::parse_str(&a.id).is_ok());
            assert_eq!((a.scheduled_at, a.interval), (None, None));
        }
    }

    #[test]
    fn what_the_operator_says_counts() {
        let interval = DataInterval {
            start: at("2020-01-01T00:00:00Z"),
            end: at("2020-01-02T00:00:00Z"),
        };
        let told = Told {
            run_id: Some("now:first".into()),
            kind: Some(RunKind::Manual),
            interval: Some(interval),
            arguments: [("region".to_owned(), "us".to_owned())].into(),
            ..told(Some("users-now-abc"), Some("uid"), Some("users-ingest"))
        };
        let run = run(&told, &daily(&serde_json::json!({"arguments": {"region": "eu", "size": "1"}})));
        assert_eq!((run.id.as_str(), run.interval), ("now:first", Some(interval)));
        assert_eq!(
            run.arguments,
            BTreeMap::from([("region".to_owned(), "us".to_owned()), ("size".to_owned(), "1".to_owned())])
        );
    }

    #[test]
    fn a_cron_jobs_run_for_an_interval_before_the_start_is_known_for_one() {
        let told = told(Some("users-ingest-28228920"), Some("uid"), Some("users-ingest"));
        for (start, before) in [
            ("2023-09-02T10:00:00Z", false),
            ("2023-09-02T10:00:01Z", true),
            ("2023-09-03T10:00:00Z", true),
            ("2020-01-01T00:00:00Z", false),
        ] {
            let schedule = daily(&serde_json::json!({"startAt": start}));
            let ticks = Ticks::read(&schedule.cron, &schedule.time_zone).unwrap();
            assert_eq!(run(&told, &schedule).is_before_start(&schedule, &ticks), before, "{start}");
        }
    }
}

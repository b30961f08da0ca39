//! The identity of a run: its id, its kind and its data interval.
//!
//! The operator's Jobs receive them as arguments. A CronJob's Jobs do not: their name has the tick.

use std::collections::BTreeMap;

use jiff::Timestamp;
use userpipeline_api::{DataInterval, RunKind, Ticks, document::RunSchedule, first_after_start, names};
use uuid::Uuid;

/// What the arguments of the program define of a run.
#[derive(Clone, Debug, Default)]
pub struct RunArguments {
    pub job: Option<String>,
    pub job_uid: Option<String>,
    pub cron_job: Option<String>,
    pub run_id: Option<String>,
    pub kind: Option<RunKind>,
    pub interval: Option<DataInterval>,
    /// They override `spec.schedule.arguments`.
    pub arguments: BTreeMap<String, String>,
    pub skip_failed: bool,
}

/// A run, as the ledger records it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub id: String,
    pub kind: RunKind,
    /// Absent if the schedule has no intervals.
    pub interval: Option<DataInterval>,
    /// Absent for a manual run.
    pub scheduled_at: Option<Timestamp>,
    /// Values of placeholders.
    pub arguments: BTreeMap<String, String>,
    /// The run is not repeated if another Job of it failed.
    pub skip_failed: bool,
}

impl Run {
    /// The run of a Job:
    /// - A Job `<cronjob>-<epoch minutes>` is the scheduled run of that tick, however often the Job is created.
    /// - Any other Job is a manual run, for the last complete interval.
    /// - Without a Job, each start is a new manual run.
    pub fn of(run: &RunArguments, schedule: Option<(&RunSchedule, &Ticks)>, now: Timestamp) -> Self {
        let mut arguments = schedule.map(|(schedule, _)| schedule.arguments.clone()).unwrap_or_default();
        arguments.extend(run.arguments.clone());
        let ticks = schedule.map(|(_, ticks)| ticks);
        let tick = match (&run.job, &run.cron_job) {
            (Some(job), Some(cron_job)) => names::tick_of_job(cron_job, job),
            _ => None,
        };
        let interval = run.interval.or_else(|| match tick {
            Some(tick) => DataInterval::ending(tick, ticks?),
            None => DataInterval::complete_at(now, ticks?),
        });
        let kind = if tick.is_some() { RunKind::Scheduled } else { RunKind::Manual };
        Self {
            id: id(run, tick),
            kind: run.kind.unwrap_or(kind),
            interval,
            scheduled_at: tick,
            arguments,
            skip_failed: run.skip_failed,
        }
    }

    /// Whether this is a scheduled run whose interval begins before `spec.schedule.startAt`, which a CronJob does not know.
    pub fn is_before_start(&self, schedule: &RunSchedule, ticks: &Ticks) -> bool {
        let (Some(start), Some(tick), RunKind::Scheduled) = (&schedule.start_at, self.scheduled_at, self.kind) else {
            return false;
        };
        first_after_start(start.0, ticks).is_none_or(|first| tick < first)
    }
}

fn id(run: &RunArguments, tick: Option<Timestamp>) -> String {
    match (&run.run_id, tick, &run.job, &run.job_uid) {
        (Some(id), ..) if !id.is_empty() => id.clone(),
        (_, Some(tick), ..) => tick.to_string(),
        // The name of a deleted Job may be used again, its uid is not.
        (_, _, Some(job), Some(uid)) if !job.is_empty() && !uid.is_empty() => uid.clone(),
        _ => Uuid::new_v4().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(job: Option<&str>, uid: Option<&str>, cron_job: Option<&str>) -> RunArguments {
        let text = |text: Option<&str>| text.map(str::to_owned);
        RunArguments {
            job: text(job),
            job_uid: text(uid),
            cron_job: text(cron_job),
            ..RunArguments::default()
        }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn daily(more: &serde_json::Value) -> RunSchedule {
        let mut schedule = serde_json::json!({"cron": "0 10 * * *"});
        schedule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(schedule).unwrap()
    }

    fn run(arguments: &RunArguments, schedule: &RunSchedule) -> Run {
        let ticks = Ticks::read(&schedule.cron, &schedule.time_zone).unwrap();
        Run::of(arguments, Some((schedule, &ticks)), at("2024-05-05T12:00:00Z"))
    }

    #[test]
    fn a_cron_jobs_job_is_the_run_of_its_tick() {
        for (job, cron_job, id) in [
            ("users-ingest-28228920", "users-ingest", "2023-09-03T10:00:00Z"),
            // A CronJob whose own name ends in digits.
            ("x-1-28228920", "x-1", "2023-09-03T10:00:00Z"),
            ("x-29000000", "x", "2025-02-19T21:20:00Z"),
        ] {
            let run = run(&arguments(Some(job), Some("uid"), Some(cron_job)), &daily(&serde_json::json!({})));
            assert_eq!((run.id.as_str(), run.kind), (id, RunKind::Scheduled), "{job}");
            assert_eq!(run.scheduled_at.map(|t| t.to_string()).as_deref(), Some(id), "{job}");
        }
    }

    #[test]
    fn a_scheduled_run_has_the_interval_that_ends_at_its_tick() {
        let run = run(
            &arguments(Some("users-ingest-28228920"), Some("uid"), Some("users-ingest")),
            &daily(&serde_json::json!({})),
        );
        let interval = run.interval.unwrap();
        assert_eq!(
            (interval.start, interval.end),
            (at("2023-09-02T10:00:00Z"), at("2023-09-03T10:00:00Z"))
        );
    }

    #[test]
    fn any_other_job_is_a_manual_run_for_the_last_complete_interval() {
        for (job, cron_job) in [
            ("users-ingest-manual-abc", Some("users-ingest")),
            ("users-ingest-28228920", None),
            ("users-ingest-5", Some("users-ingest")),
            ("users-ingest-28228920", Some("")),
        ] {
            let run = run(&arguments(Some(job), Some("uid"), cron_job), &daily(&serde_json::json!({})));
            assert_eq!(
                (run.id.as_str(), run.kind, run.scheduled_at),
                ("uid", RunKind::Manual, None),
                "{job} of {cron_job:?}"
            );
            assert_eq!(run.interval.unwrap().end, at("2024-05-05T10:00:00Z"));
        }
    }

    #[test]
    fn without_a_job_each_start_is_a_new_run() {
        for (job, uid) in [
            (None, None),
            (None, Some("uid")),
            (Some("by-hand"), None),
            (Some(""), Some("uid")),
            (Some("by-hand"), Some("")),
        ] {
            let start = || Run::of(&arguments(job, uid, None), None, Timestamp::UNIX_EPOCH);
            let (a, b) = (start(), start());
            assert_ne!(a.id, b.id);
            assert!(Uuid::parse_str(&a.id).is_ok());
            assert_eq!((a.scheduled_at, a.interval), (None, None));
        }
    }

    #[test]
    fn arguments_override_names_and_schedule() {
        let interval = DataInterval {
            start: at("2020-01-01T00:00:00Z"),
            end: at("2020-01-02T00:00:00Z"),
        };
        let now = RunArguments {
            run_id: Some("now:first".into()),
            kind: Some(RunKind::Manual),
            interval: Some(interval),
            arguments: [("region".to_owned(), "us".to_owned())].into(),
            ..arguments(Some("users-now-abc"), Some("uid"), Some("users-ingest"))
        };
        let run = run(&now, &daily(&serde_json::json!({"arguments": {"region": "eu", "size": "1"}})));
        assert_eq!((run.id.as_str(), run.interval), ("now:first", Some(interval)));
        assert_eq!(
            run.arguments,
            BTreeMap::from([("region".to_owned(), "us".to_owned()), ("size".to_owned(), "1".to_owned())])
        );
    }

    #[test]
    fn a_cron_jobs_run_for_an_interval_before_the_start_is_recognised() {
        let tick = arguments(Some("users-ingest-28228920"), Some("uid"), Some("users-ingest"));
        for (start, before) in [
            ("2023-09-02T10:00:00Z", false),
            ("2023-09-02T10:00:01Z", true),
            ("2023-09-03T10:00:00Z", true),
            ("2020-01-01T00:00:00Z", false),
        ] {
            let schedule = daily(&serde_json::json!({"startAt": start}));
            let ticks = Ticks::read(&schedule.cron, &schedule.time_zone).unwrap();
            assert_eq!(run(&tick, &schedule).is_before_start(&schedule, &ticks), before, "{start}");
        }
    }
}

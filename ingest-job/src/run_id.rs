//! Which run this is: known from the Job's name, because a pod is told nothing else.

use jiff::Timestamp;
use uuid::Uuid;

/// A CronJob's Jobs end in the minutes since 1970. Numbers outside of 2020 to 2999 were typed by somebody.
const MINUTES: std::ops::Range<i64> = 26_297_280..541_728_000;

/// What the ledger calls this run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunId {
    /// The id: the scheduled time, or the Job's uid.
    pub id: String,
    /// The time it was scheduled for; none for a manual run.
    pub scheduled_at: Option<Timestamp>,
}

impl RunId {
    /// The run of a Job. `<cronjob>-<epoch minutes>` is a scheduled run, the same one however often its Job is made; any
    /// other Job is a manual run of its own; without a Job, each start is a run of its own.
    pub fn of(job: Option<&str>, job_uid: Option<&str>, cronjob: Option<&str>) -> Self {
        if let (Some(job), Some(cronjob)) = (job, cronjob)
            && let Some(scheduled_at) = scheduled(job, cronjob)
        {
            return Self {
                id: scheduled_at.to_string(),
                scheduled_at: Some(scheduled_at),
            };
        }
        // A Job's name may be used again after it was deleted, its uid never: without the uid there is nothing to go by.
        let id = match (job, job_uid) {
            (Some(job), Some(uid)) if !job.is_empty() && !uid.is_empty() => uid.to_owned(),
            _ => Uuid::new_v4().to_string(),
        };
        Self { id, scheduled_at: None }
    }
}

fn scheduled(job: &str, cronjob: &str) -> Option<Timestamp> {
    let digits = job.strip_prefix(cronjob)?.strip_prefix('-')?;
    let minutes: i64 = digits.parse().ok()?;
    // `+29000000` and `029000000` parse too, but no CronJob writes them.
    if minutes.to_string() != digits || !MINUTES.contains(&minutes) {
        return None;
    }
    Timestamp::from_second(minutes * 60).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cron_jobs_job_is_the_run_of_its_scheduled_time() {
        for (job, cronjob, id) in [
            ("users-ingest-28228920", "users-ingest", "2023-09-03T10:00:00Z"),
            // A CronJob whose own name ends in digits.
            ("x-1-28228920", "x-1", "2023-09-03T10:00:00Z"),
            ("x-29000000", "x", "2025-02-19T21:20:00Z"),
        ] {
            let run = RunId::of(Some(job), Some("uid"), Some(cronjob));
            assert_eq!(run.id, id, "{job}");
            assert_eq!(run.scheduled_at.map(|t| t.to_string()).as_deref(), Some(id), "{job}");
        }
    }

    #[test]
    fn any_other_job_is_a_manual_run() {
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
            assert_eq!(
                RunId::of(Some(job), Some("uid"), cronjob),
                RunId {
                    id: "uid".into(),
                    scheduled_at: None
                },
                "{job} of {cronjob:?}"
            );
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
            let (a, b) = (RunId::of(job, uid, None), RunId::of(job, uid, None));
            assert_ne!(a.id, b.id);
            assert!(Uuid::parse_str(&a.id).is_ok());
            assert_eq!(a.scheduled_at, None);
        }
    }
}

//! When a connection is checked: on a change, on request, daily, and sooner again after a problem. Pure.

use std::time::Duration;

use jiff::Timestamp;
use userpipeline_api::{ConnectionCheck, names, report::ConnectionReport};

use super::subject::Subject;
use crate::pipeline::{Delete, Problem, Progress, State, TaskJob, TaskRecord, advance, whole_seconds};

/// Between two checks that found nothing wrong.
const EVERY: Duration = Duration::from_secs(24 * 3600);
/// After the first check that found a problem. Each further one doubles it.
const AFTER_PROBLEM: Duration = Duration::from_secs(600);
const LONGEST_AFTER_PROBLEM: Duration = Duration::from_secs(3600);
/// Daily checks of connections that were created together are spread over this time, in seconds.
const SPREAD: u64 = 3600;
/// No event reports the Job of a connection.
const POLL: Duration = Duration::from_secs(2);

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// To be written to the status.
    pub check: ConnectionCheck,
    /// The attempt for which to create a Job.
    pub create: Option<i32>,
    pub delete: Vec<Delete>,
    /// What keeps the pod of the Job from running.
    pub problem: Option<Problem>,
    /// When to decide again.
    pub requeue: Duration,
}

/// What a connection adds to the time between two daily checks.
pub fn spread(uid: &str) -> Duration {
    let hash = u64::from_str_radix(&names::hash(uid), 16).unwrap_or_default();
    Duration::from_secs(hash % SPREAD)
}

/// Decides about the check for `subject`. `task_hash` is that of the next Job.
pub fn decide(
    subject: &Subject,
    task_hash: &str,
    recorded: &ConnectionCheck,
    jobs: &[TaskJob<ConnectionReport>],
    spread: Duration,
    now: Timestamp,
) -> Decision {
    let record = Record {
        check: recorded.clone(),
        spread,
        now,
    };
    let step = advance(&subject.to_string(), task_hash, &record, jobs, now);
    let due_in = step
        .record
        .due_at()
        .map_or(POLL, |due| Duration::try_from(due.duration_since(now)).unwrap_or_default());
    let (create, problem, requeue) = match step.state {
        State::Done if jobs.iter().all(|job| job.gone) => (None, None, due_in.max(POLL)),
        State::Running(problem) => (None, problem, POLL),
        State::Due(attempt) => (Some(attempt), None, POLL),
        State::BackingOff(wait) => (None, None, wait),
        State::Done | State::Blocked => (None, None, POLL),
    };
    Decision {
        check: step.record.check,
        create,
        delete: step.delete,
        problem,
        requeue,
    }
}

/// The status of the check at a time.
#[derive(Clone, Debug)]
struct Record {
    check: ConnectionCheck,
    spread: Duration,
    now: Timestamp,
}

impl Record {
    /// When the next check of the same spec is due. None if there was none.
    fn due_at(&self) -> Option<Timestamp> {
        let after = match u32::try_from(self.check.consecutive_problems) {
            Ok(problems @ 1..) => AFTER_PROBLEM
                .saturating_mul(2_u32.saturating_pow(problems - 1))
                .min(LONGEST_AFTER_PROBLEM),
            _ => EVERY + self.spread,
        };
        Some(self.check.checked_at.as_ref()?.0 + after)
    }
}

impl TaskRecord for Record {
    type Report = ConnectionReport;

    const KEEPS_FAILED_JOB: bool = true;

    fn is_done(&self, subject: &str) -> bool {
        let is_current = Subject::read(subject).is_some_and(|subject| subject.is_of(&self.check));
        is_current && self.due_at().is_some_and(|due| self.now < due)
    }

    fn failures(&self, _: &str) -> (i32, Option<Timestamp>) {
        (self.check.failed_attempts, self.check.failed_at.as_ref().map(|at| at.0))
    }

    fn has(&self, job: &TaskJob<ConnectionReport>) -> bool {
        let checked_at = self.check.checked_at.as_ref().map(|at| at.0);
        let failed_at = self.check.failed_at.as_ref().map(|at| at.0);
        let checked = self.check.generation.map(|generation| Subject {
            generation,
            nonce: self.check.nonce.clone(),
        });
        let is_of_job = Subject::read(&job.subject) == checked;
        match &job.progress {
            Progress::Running { .. } => false,
            // There may have been another check in the same second.
            Progress::Succeeded { at, .. } => checked_at > Some(*at) || (checked_at == Some(*at) && is_of_job),
            Progress::Failed { at, .. } => checked_at > Some(*at) || failed_at >= Some(*at),
        }
    }

    fn succeed(&mut self, job: &TaskJob<ConnectionReport>, at: Timestamp, report: &ConnectionReport) {
        let not_after = report.blocks.iter().filter_map(|block| block.certificate_not_after.clone());
        let has_problem = report.blocks.iter().any(|block| block.reason.is_some());
        let subject = Subject::read(&job.subject);
        self.check = ConnectionCheck {
            consecutive_problems: if has_problem {
                self.check.consecutive_problems.saturating_add(1)
            } else {
                0
            },
            generation: subject.as_ref().map(|subject| subject.generation),
            nonce: subject.and_then(|subject| subject.nonce),
            checked_at: Some(whole_seconds(at)),
            certificate_not_after: not_after.min_by_key(|at| at.0),
            blocks: report.blocks.clone(),
            ..ConnectionCheck::default()
        };
    }

    /// The Job left no report: its pod could not run, or its program does not know the connection.
    fn fail(&mut self, _: &TaskJob<ConnectionReport>, at: Timestamp, report: &ConnectionReport) {
        self.check.failed_attempts += 1;
        self.check.failed_at = Some(whole_seconds(at));
        self.check.failure_reason = Some(report.reason.clone());
        self.check.failure_message = Some(report.message.clone());
    }
}

#[cfg(test)]
mod tests {
    use userpipeline_api::BlockCheck;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn report(reason: Option<&str>) -> ConnectionReport {
        ConnectionReport {
            reason: "Checked".into(),
            blocks: vec![BlockCheck {
                block: "postgres".into(),
                reason: reason.map(str::to_owned),
                certificate_not_after: Some(whole_seconds(at(99))),
                ..BlockCheck::default()
            }],
            ..ConnectionReport::default()
        }
    }

    fn job(generation: &str, progress: Progress<ConnectionReport>) -> TaskJob<ConnectionReport> {
        TaskJob {
            name: "stores-check".into(),
            subject: generation.into(),
            task_hash: "t".into(),
            attempt: 0,
            created_at: at(0),
            deleting: false,
            gone: false,
            progress,
        }
    }

    fn succeeded(generation: &str, second: i64, reason: Option<&str>) -> TaskJob<ConnectionReport> {
        let progress = Progress::Succeeded {
            at: at(second),
            report: report(reason),
        };
        job(generation, progress)
    }

    fn subject(label: &str) -> Subject {
        Subject::read(label).unwrap()
    }

    fn decided(generation: &str, recorded: &ConnectionCheck, jobs: &[TaskJob<ConnectionReport>], second: i64) -> Decision {
        decide(&subject(generation), "t", recorded, jobs, Duration::ZERO, at(second))
    }

    #[test]
    fn a_connection_is_checked_on_a_change_daily_and_soon_after_a_problem() {
        let none = ConnectionCheck::default();
        assert_eq!(decided("1", &none, &[], 0).create, Some(0), "a new connection");
        let good = decided("1", &none, &[succeeded("1", 5, None)], 6).check;
        assert_eq!((good.generation, good.checked_at.clone()), (Some(1), Some(whole_seconds(at(5)))));
        assert_eq!(good.certificate_not_after, Some(whole_seconds(at(99))));
        let bad = decided("1", &none, &[succeeded("1", 5, Some("PostgresUnreachable"))], 6).check;
        let (day, minutes) = (24 * 3600, 600);
        for (case, recorded, generation, second, due) in [
            ("after a moment", &good, "1", 60, false),
            ("within a day", &good, "1", day + 4, false),
            ("after a day", &good, "1", day + 5, true),
            ("after a change", &good, "2", 60, true),
            ("soon after a problem", &bad, "1", minutes + 4, false),
            ("ten minutes after a problem", &bad, "1", minutes + 5, true),
        ] {
            let decision = decided(generation, recorded, &[], second);
            assert_eq!(decision.create.is_some(), due, "{case}");
        }
        assert_eq!(decided("1", &good, &[], 65).requeue, Duration::from_secs(24 * 3600 - 60));
    }

    #[test]
    fn after_repeated_problems_the_next_check_is_later_up_to_an_hour() {
        let mut check = ConnectionCheck::default();
        for (n, minutes) in [10, 20, 40, 60, 60].into_iter().enumerate() {
            let end = i64::try_from(n).unwrap() * 10_000;
            check = decided("1", &check, &[succeeded("1", end, Some("KafkaUnreachable"))], end).check;
            for (second, due) in [(minutes * 60 - 1, false), (minutes * 60, true)] {
                assert_eq!(decided("1", &check, &[], end + second).create.is_some(), due, "problem {n}");
            }
        }
        let good = decided("1", &check, &[succeeded("1", 90_000, None)], 90_000).check;
        assert_eq!(good.consecutive_problems, 0);
    }

    #[test]
    fn a_nonce_requests_one_check() {
        let good = decided("1", &ConnectionCheck::default(), &[succeeded("1", 5, None)], 6).check;
        assert_eq!(decided("1.now", &good, &[], 7).create, Some(0));
        // One that began before does not count
        let superseded = [job("1", Progress::Running { problem: None })];
        let waiting = decided("1.now", &good, &superseded, 7);
        assert_eq!((waiting.create, waiting.delete.len()), (None, 1));
        let requested = decided("1.now", &good, &[succeeded("1.now", 9, None)], 9).check;
        assert_eq!((requested.generation, requested.nonce.as_deref()), (Some(1), Some("now")));
        for (subject, due) in [("1.now", false), ("1", false), ("1.again", true), ("2.now", true)] {
            assert_eq!(decided(subject, &requested, &[], 60).create.is_some(), due, "{subject}");
        }
        let ended = [succeeded("1.now", 9, None)];
        assert_eq!(decided("1.now", &requested, &ended, 60).delete.len(), 1, "it is recorded");
    }

    #[test]
    fn daily_checks_are_spread() {
        let good = decided("1", &ConnectionCheck::default(), &[succeeded("1", 0, None)], 1).check;
        for (second, due) in [(24 * 3600 + 99, false), (24 * 3600 + 100, true)] {
            let decision = decide(&subject("1"), "t", &good, &[], Duration::from_secs(100), at(second));
            assert_eq!(decision.create.is_some(), due, "{second}");
        }
        let all: std::collections::BTreeSet<Duration> = (0..20).map(|n| spread(&format!("uid-{n}"))).collect();
        assert!(all.len() > 15 && all.iter().all(|spread| spread.as_secs() < SPREAD), "{all:?}");
    }

    #[test]
    fn a_result_is_recorded_before_its_job_is_deleted() {
        let ended = [succeeded("1", 5, None)];
        let first = decided("1", &ConnectionCheck::default(), &ended, 6);
        assert!(first.delete.is_empty() && first.create.is_none());
        let second = decided("1", &first.check, &ended, 8);
        assert_eq!((second.delete.len(), &second.check), (1, &first.check));
        assert_eq!(second.requeue, POLL, "until it is gone");
    }

    #[test]
    fn a_job_without_a_report_is_repeated_with_back_off_and_the_last_result_stays() {
        let good = decided("1", &ConnectionCheck::default(), &[succeeded("1", 5, None)], 6).check;
        let failed = ConnectionReport {
            reason: "ImagePullBackOff".into(),
            ..ConnectionReport::default()
        };
        let failed = [job(
            "2",
            Progress::Failed {
                at: at(20),
                report: failed,
            },
        )];
        let first = decided("2", &good, &failed, 20);
        assert_eq!(
            (first.check.failed_attempts, first.create, first.requeue),
            (1, None, Duration::from_secs(2))
        );
        assert_eq!((&first.check.blocks, first.check.generation), (&good.blocks, Some(1)));
        assert_eq!(first.check.failure_reason.as_deref(), Some("ImagePullBackOff"));
        let again = decided("2", &first.check, &failed, 21);
        assert_eq!(again.check, first.check, "it counts once");
        let over = decided("2", &first.check, &[], 23);
        assert_eq!(over.create, Some(1));
        let recovered = decided("2", &first.check, &[succeeded("2", 30, None)], 31).check;
        assert_eq!((recovered.failed_attempts, recovered.failure_reason), (0, None));
    }
}

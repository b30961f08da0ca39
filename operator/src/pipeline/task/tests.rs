//! The state machine with a minimal record.

use std::time::Duration;

use jiff::Timestamp;

use super::*;
use crate::pipeline::observe::{Progress, TaskJob};

#[derive(Clone, Debug, Default, PartialEq)]
struct Record {
    done: bool,
    failed: i32,
    failed_at: Option<Timestamp>,
}

impl TaskRecord for Record {
    type Report = ();

    const KEEPS_FAILED_JOB: bool = true;

    fn is_done(&self, _: &str) -> bool {
        self.done
    }

    fn failures(&self, _: &str) -> (i32, Option<Timestamp>) {
        (self.failed, self.failed_at)
    }

    fn has(&self, job: &TaskJob<()>) -> bool {
        self.done || self.failed > job.attempt
    }

    fn succeed(&mut self, _: &TaskJob<()>, _: Timestamp, (): &()) {
        self.done = true;
    }

    fn fail(&mut self, job: &TaskJob<()>, at: Timestamp, (): &()) {
        self.failed = job.attempt + 1;
        self.failed_at = Some(at);
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn job(attempt: i32, progress: Progress<()>) -> TaskJob<()> {
    TaskJob {
        name: format!("job-{attempt}"),
        subject: "s".into(),
        task_hash: "t".into(),
        attempt,
        created_at: at(0),
        deleting: false,
        gone: false,
        progress,
    }
}

fn step(recorded: &Record, jobs: &[TaskJob<()>], second: i64) -> Step<Record, ()> {
    advance("s", "t", recorded, jobs, at(second))
}

fn deleted(step: &Step<Record, ()>) -> Vec<(&str, bool)> {
    step.delete.iter().map(|delete| (delete.name.as_str(), delete.running)).collect()
}

#[test]
fn a_success_is_recorded_before_its_job_is_deleted() {
    let none = Record::default();
    assert_eq!(step(&none, &[], 0).state, State::Due(0));
    let running = job(0, Progress::Running { problem: None });
    assert_eq!(step(&none, &[running], 1).state, State::Running(None));
    let ended = [job(0, Progress::Succeeded { at: at(2), report: () })];
    let first = step(&none, &ended, 2);
    assert_eq!((&first.state, deleted(&first), first.record.done), (&State::Done, vec![], true));
    let second = step(&first.record, &ended, 3);
    assert_eq!((&second.state, deleted(&second)), (&State::Done, vec![("job-0", false)]));
}

#[test]
fn a_failure_is_repeated_after_the_back_off_once_its_job_is_gone() {
    let ended = [job(0, Progress::Failed { at: at(2), report: () })];
    let first = step(&Record::default(), &ended, 2);
    assert_eq!((&first.state, first.record.failed), (&State::BackingOff(Duration::from_secs(2)), 1));
    let backing_off = step(&first.record, &ended, 3);
    assert!(backing_off.delete.is_empty(), "its log can be read");
    let over = step(&first.record, &ended, 4);
    assert_eq!((&over.state, deleted(&over)), (&State::Blocked, vec![("job-0", false)]));
    assert_eq!(step(&first.record, &[], 5).state, State::Due(1));
}

#[test]
fn an_obsolete_job_blocks_the_next_one_until_it_is_gone() {
    let other = TaskJob {
        task_hash: "other".into(),
        ..job(0, Progress::Running { problem: None })
    };
    let first = step(&Record::default(), std::slice::from_ref(&other), 0);
    assert_eq!((&first.state, deleted(&first)), (&State::Blocked, vec![("job-0", true)]));
    let deleting = TaskJob { deleting: true, ..other };
    let second = step(&Record::default(), &[deleting], 1);
    assert_eq!((&second.state, deleted(&second)), (&State::Blocked, vec![]));
}

/// A Job of the task that was deleted at this second.
fn gone(attempt: i32, progress: Progress<()>) -> TaskJob<()> {
    TaskJob {
        deleting: true,
        gone: true,
        ..job(attempt, progress)
    }
}

#[test]
fn the_result_of_a_job_that_was_deleted_before_it_was_recorded_counts() {
    let ended = [gone(0, Progress::Succeeded { at: at(2), report: () })];
    let done = step(&Record::default(), &ended, 3);
    assert_eq!((&done.state, deleted(&done), done.record.done), (&State::Done, vec![], true));
    assert_eq!(step(&done.record, &ended, 4).record, done.record);
}

#[test]
fn a_job_that_was_deleted_while_it_ran_is_a_failed_attempt_with_back_off() {
    let first = [gone(0, Progress::Failed { at: at(2), report: () })];
    let failed = step(&Record::default(), &first, 2);
    assert_eq!(
        (&failed.state, deleted(&failed), failed.record.failed),
        (&State::BackingOff(Duration::from_secs(2)), vec![], 1)
    );
    let due = step(&failed.record, &first, 4);
    assert_eq!(
        (&due.state, &due.record),
        (&State::Due(1), &failed.record),
        "it does not block the next one, and counts once"
    );
    let second = [first[0].clone(), gone(1, Progress::Failed { at: at(5), report: () })];
    assert_eq!(step(&failed.record, &second, 5).state, State::BackingOff(Duration::from_secs(4)));
}

#[test]
fn a_deleted_job_for_another_subject_or_with_other_settings_does_not_count() {
    let failed = || gone(0, Progress::Failed { at: at(2), report: () });
    let other_subject = TaskJob {
        subject: "other".into(),
        progress: Progress::Succeeded { at: at(2), report: () },
        ..failed()
    };
    let other_settings = TaskJob {
        task_hash: "other".into(),
        ..failed()
    };
    let next = step(&Record::default(), &[other_subject, other_settings], 3);
    assert_eq!((next.state, next.record), (State::Due(0), Record::default()));
    let done = Record {
        done: true,
        ..Record::default()
    };
    assert_eq!(step(&done, &[failed()], 3).record, done);
}

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

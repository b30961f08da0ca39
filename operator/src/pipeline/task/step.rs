//! The next step of a task.

use std::time::Duration;

use jiff::Timestamp;

use super::{back_off::back_off, record::TaskRecord};
use crate::pipeline::{
    model::{Problem, elapsed},
    observe::{Progress, TaskJob},
};

/// The requeue while older Jobs still exist: the cache may be behind.
const BLOCKED_RETRY: Duration = Duration::from_secs(1);

/// A Job to delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delete {
    pub name: String,
    /// It still runs, so it must stay observable until its pods are gone.
    pub running: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    Done,
    /// A Job runs; what keeps its pod from running, if anything.
    Running(Option<Problem>),
    /// The next attempt follows after this time.
    BackingOff(Duration),
    /// The next attempt is due; so many failed before it.
    Due(i32),
    /// The next attempt is due, but an older Job still exists.
    Blocked,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Step<S, R> {
    /// To be written to the status.
    pub record: S,
    pub state: State,
    pub delete: Vec<Delete>,
    /// When to reconcile again, if no event comes first.
    pub requeue: Option<Duration>,
    /// The report that was recorded last in this step.
    pub new_report: Option<R>,
}

/// Advances the task for `subject`. `task_hash` is the hash of image and pod settings of its next Job.
pub fn advance<S>(subject: &str, task_hash: &str, recorded: &S, jobs: &[TaskJob<S::Report>], now: Timestamp) -> Step<S, S::Report>
where
    S: TaskRecord,
    S::Report: Clone,
{
    let mut step = Step {
        record: recorded.clone(),
        state: State::Done,
        delete: Vec::new(),
        requeue: None,
        new_report: None,
    };
    record_results(&mut step, subject, task_hash, jobs);
    let running = review_jobs(&mut step, subject, task_hash, recorded, jobs);
    if step.record.is_done(subject) {
        return step;
    }
    if let Some(running) = running {
        step.state = running;
        return step;
    }
    let (failures, failed_at) = step.record.failures(subject);
    let wait = failed_at.and_then(|failed_at| {
        let left = back_off(failures).checked_sub(elapsed(failed_at, now));
        left.filter(|left| !left.is_zero())
    });
    if let Some(wait) = wait {
        if S::KEEPS_FAILED_JOB {
            let is_of_subject = |delete: &Delete| jobs.iter().any(|job| job.name == delete.name && job.subject == subject);
            step.delete.retain(|delete| !is_of_subject(delete));
        }
        step.state = State::BackingOff(wait);
        step.requeue = Some(wait);
    } else if jobs.iter().all(|job| job.gone) {
        step.state = State::Due(failures);
    } else {
        step.state = State::Blocked;
        step.requeue = Some(BLOCKED_RETRY);
    }
    step
}

/// Records the Jobs that ended, in the order in which they did.
fn record_results<S>(step: &mut Step<S, S::Report>, subject: &str, task_hash: &str, jobs: &[TaskJob<S::Report>])
where
    S: TaskRecord,
    S::Report: Clone,
{
    let mut ended: Vec<_> = jobs.iter().filter(|job| !job.is_running()).collect();
    ended.sort_by_key(|job| job.ended_at());
    for job in ended {
        if step.record.is_obsolete(job, subject, task_hash)
            || step.record.has(job)
            || (job.gone && !counts_when_gone(step, job, subject, task_hash))
        {
            continue;
        }
        match &job.progress {
            Progress::Running { .. } => {}
            Progress::Succeeded { at, report } => {
                step.record.succeed(job, *at, report);
                step.new_report = Some(report.clone());
            }
            Progress::Failed { at, report } => {
                step.record.fail(job, *at, report);
                step.new_report = Some(report.clone());
            }
        }
    }
}

/// Whether a Job that no longer exists says something about the subject: deleted Jobs are remembered for a while, and the spec may
/// have changed since.
fn counts_when_gone<S: TaskRecord>(step: &Step<S, S::Report>, job: &TaskJob<S::Report>, subject: &str, task_hash: &str) -> bool {
    let has_failed = matches!(job.progress, Progress::Failed { .. });
    job.subject == subject && !(has_failed && (job.task_hash != task_hash || step.record.is_done(subject)))
}

/// Decides which Jobs to delete. Returns the state where a Job that counts is running.
fn review_jobs<S: TaskRecord>(
    step: &mut Step<S, S::Report>,
    subject: &str,
    task_hash: &str,
    recorded: &S,
    jobs: &[TaskJob<S::Report>],
) -> Option<State> {
    let mut running = None;
    for job in jobs.iter().filter(|job| !job.deleting) {
        let delete = Delete {
            name: job.name.clone(),
            running: job.is_running(),
        };
        if step.record.is_obsolete(job, subject, task_hash) {
            if recorded.allows_abort() {
                step.delete.push(delete);
            } else {
                step.record.start(&job.subject);
            }
        } else if let Progress::Running { problem } = &job.progress {
            step.record.start(subject);
            running = Some(State::Running(problem.clone()));
        } else if recorded.has(job) {
            step.delete.push(delete);
        }
    }
    running
}

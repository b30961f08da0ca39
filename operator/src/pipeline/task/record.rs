//! What the status remembers of a task.

use jiff::Timestamp;

use crate::pipeline::observe::TaskJob;

/// A part of the status that records the Jobs of a task.
pub trait TaskRecord: Clone {
    type Report;

    /// A failed Job stays until its back-off is over, so that its log can be read.
    const KEEPS_FAILED_JOB: bool;

    fn is_done(&self, subject: &str) -> bool;

    /// How many attempts for the subject failed in a row, and when the last one did.
    fn failures(&self, subject: &str) -> (i32, Option<Timestamp>);

    /// Whether the record has the result of an ended Job.
    fn has(&self, job: &TaskJob<Self::Report>) -> bool;

    /// A Job for the subject may have taken effect from now on.
    fn start(&mut self, _subject: &str) {}

    /// Whether a Job that is not needed any more may be deleted while it runs: its possible effect must be recorded before.
    fn allows_abort(&self) -> bool {
        true
    }

    fn succeed(&mut self, job: &TaskJob<Self::Report>, at: Timestamp, report: &Self::Report);

    fn fail(&mut self, job: &TaskJob<Self::Report>, at: Timestamp, report: &Self::Report);

    /// Whether a Job does not count for the subject with this task hash, and must go.
    fn is_obsolete(&self, job: &TaskJob<Self::Report>, subject: &str, task_hash: &str) -> bool {
        job.is_running() && (job.subject != subject || job.task_hash != task_hash || self.is_done(subject))
    }
}

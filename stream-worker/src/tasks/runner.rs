//! Runs a task: pipeline file -> report -> termination log -> exit code.

use std::path::PathBuf;

use serde::Serialize;
use userpipeline_api::report::{ConnectionReport, DeletionReport, DrainReport, InspectionReport, SchemaReport, cut_message, exit};
use userpipeline_runtime::leave_report;
use userpipeline_stores::{Secrets, StoreError, error::PIPELINE_INVALID};

/// What a task is started with.
pub struct TaskFiles {
    /// The pipeline, or the connection.
    pub resource: PathBuf,
    pub secrets: Secrets,
    pub termination_log: PathBuf,
}

/// A task's report and exit code.
pub struct Finished<R> {
    pub report: R,
    pub exit: u8,
}

/// A report that can carry a failure.
pub trait TaskReport: Serialize {
    fn failed(reason: &str, message: String) -> Self;
}

impl<R: TaskReport> Finished<R> {
    pub const fn done(report: R) -> Self {
        Self { report, exit: exit::DONE }
    }

    pub fn failed(error: &StoreError) -> Self {
        Self {
            report: R::failed(error.reason, cut_message(&error.message)),
            exit: error.class.exit_code(),
        }
    }
}

/// Reads the resource's file with `read`, and does the work.
pub async fn execute<P, R: TaskReport>(
    files: &TaskFiles,
    read: impl FnOnce(&str) -> Result<P, String>,
    work: impl AsyncFnOnce(P) -> Finished<R>,
) -> Finished<R> {
    let path = &files.resource;
    let text = std::fs::read_to_string(path).map_err(|e| format!("the file {} does not read: {e}", path.display()));
    match text.and_then(|text| read(&text)) {
        Ok(resource) => work(resource).await,
        Err(message) => {
            tracing::error!(reason = PIPELINE_INVALID, message, "the resource's file cannot be used");
            Finished::failed(&StoreError::configuration(PIPELINE_INVALID, message))
        }
    }
}

/// Executes a task, and leaves its report; returns the exit code.
pub async fn run<P, R: TaskReport>(
    files: &TaskFiles,
    read: impl FnOnce(&str) -> Result<P, String>,
    work: impl AsyncFnOnce(P) -> Finished<R>,
) -> u8 {
    let finished = execute(files, read, work).await;
    leave_report(&finished.report, &files.termination_log);
    finished.exit
}

impl TaskReport for SchemaReport {
    fn failed(reason: &str, message: String) -> Self {
        Self {
            reason: reason.to_owned(),
            message,
            ..Self::default()
        }
    }
}

impl TaskReport for DrainReport {
    fn failed(reason: &str, message: String) -> Self {
        Self {
            reason: reason.to_owned(),
            message,
            ..Self::default()
        }
    }
}

impl TaskReport for InspectionReport {
    fn failed(reason: &str, message: String) -> Self {
        Self {
            reason: reason.to_owned(),
            message,
            ..Self::default()
        }
    }
}

impl TaskReport for ConnectionReport {
    fn failed(reason: &str, message: String) -> Self {
        Self {
            reason: reason.to_owned(),
            message,
            ..Self::default()
        }
    }
}

impl TaskReport for DeletionReport {
    fn failed(reason: &str, message: String) -> Self {
        Self {
            reason: reason.to_owned(),
            message,
        }
    }
}

//! The result of a run for the operator: the exit code, and the report for the termination message.

use jiff::Timestamp;
use userpipeline_api::report::{RunReport, cut_message, cut_warning, exit};

use crate::{
    outcome::{COMPLETED, Counts, Failure, Success},
    run_id::Run,
};

#[derive(Clone, Debug, PartialEq)]
pub struct RunResult {
    pub report: RunReport,
    /// The exit code.
    pub exit: u8,
}

impl RunResult {
    pub fn log(&self) {
        let RunReport {
            run_id: run,
            reason,
            message,
            pages,
            items,
            bytes,
            landed,
            filtered,
            published,
            rejected,
            total_fetched,
            ..
        } = &self.report;
        let code = self.exit;
        if let Some(warning) = &self.report.warning {
            tracing::warn!(run, "data may be missing: {warning}");
        }
        if code == exit::DONE {
            tracing::info!(
                run,
                reason,
                exit = code,
                pages,
                items,
                bytes,
                landed,
                filtered,
                published,
                rejected,
                total_fetched,
                "the run ended: {message}"
            );
        } else {
            tracing::error!(
                run,
                reason,
                exit = code,
                pages,
                items,
                bytes,
                landed,
                filtered,
                published,
                rejected,
                total_fetched,
                "the run failed: {message}"
            );
        }
    }
}

/// A run while it is active: what its report contains beside the outcome.
#[derive(Clone, Debug)]
pub struct ActiveRun {
    pub run: Run,
    /// Of this attempt.
    pub started_at: Timestamp,
    /// Number of attempts, this one included. 0 before the ledger is open.
    pub attempt: i32,
    /// Of all attempts.
    pub counts: Counts,
    /// Record versions that the pipeline landed in total. Absent if the ledger could not be read.
    pub total_fetched: Option<i64>,
}

impl ActiveRun {
    pub fn complete(self, success: &Success) -> RunResult {
        let mut result = self.end(exit::DONE, COMPLETED, &success.message);
        result.report.warning = success.warning.as_deref().map(cut_warning);
        result
    }

    pub fn fail(self, failure: &Failure) -> RunResult {
        self.end(failure.exit, failure.reason, &failure.message)
    }

    pub fn end(self, exit: u8, reason: &str, message: &str) -> RunResult {
        let report = RunReport {
            run_id: self.run.id,
            scheduled_at: self.run.scheduled_at,
            kind: Some(self.run.kind),
            interval: self.run.interval.map(Into::into),
            attempt: self.attempt,
            started_at: Some(self.started_at),
            finished_at: Some(Timestamp::now()),
            reason: reason.to_owned(),
            message: cut_message(message),
            pages: self.counts.pages,
            items: self.counts.items,
            bytes: self.counts.bytes,
            landed: self.counts.landed,
            filtered: self.counts.filtered,
            published: self.counts.published,
            rejected: self.counts.rejected,
            total_fetched: self.total_fetched,
            warning: None,
        };
        RunResult { report, exit }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use userpipeline_api::{DataInterval, RunKind};

    use super::*;

    #[test]
    fn the_longest_report_is_a_valid_termination_message() {
        let run = ActiveRun {
            run: Run {
                id: "x".repeat(130),
                kind: RunKind::Backfill,
                interval: Some(DataInterval {
                    start: Timestamp::MAX,
                    end: Timestamp::MAX,
                }),
                scheduled_at: Some(Timestamp::MAX),
                arguments: BTreeMap::new(),
                skip_failed: false,
            },
            attempt: i32::MAX,
            started_at: Timestamp::MAX,
            counts: Counts {
                pages: i64::MAX,
                items: i64::MAX,
                bytes: i64::MAX,
                landed: i64::MAX,
                filtered: i64::MAX,
                published: i64::MAX,
                rejected: i64::MAX,
            },
            total_fetched: Some(i64::MAX),
        };
        let result = run.complete(&Success {
            message: "\u{1}\"".repeat(9000),
            warning: Some("\u{1}\"".repeat(9000)),
        });

        let text = userpipeline_runtime::termination_report(&result.report).unwrap();

        assert!(text.len() < 4096);
        assert_eq!(serde_json::from_str::<RunReport>(&text).unwrap().run_id, result.report.run_id);
    }
}

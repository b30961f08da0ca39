//! What a run tells the operator: its exit code, and the report that becomes the pod's termination message.

use jiff::Timestamp;
use userpipeline_api::report::{RunReport, cut_message, exit};

use crate::{
    outcome::{COMPLETED, Counts, Failure},
    run_id::Run,
};

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// The report.
    pub report: RunReport,
    /// The exit code.
    pub exit: u8,
}

impl Ended {
    /// Logs how the run ended.
    pub fn log(&self) {
        let RunReport {
            run_id: run,
            reason,
            message,
            pages,
            items,
            bytes,
            landed,
            published,
            rejected,
            total_fetched,
            ..
        } = &self.report;
        let code = self.exit;
        if code == exit::DONE {
            tracing::info!(
                run,
                reason,
                exit = code,
                pages,
                items,
                bytes,
                landed,
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
                published,
                rejected,
                total_fetched,
                "the run failed: {message}"
            );
        }
    }
}

/// What a report says beside how the run ended.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Which run.
    pub run: Run,
    /// When this attempt started.
    pub started_at: Timestamp,
    /// How often the run was tried, this time included; 0 before the ledger knows.
    pub attempt: i32,
    /// What the run counted, over all of its attempts, as the ledger does.
    pub counts: Counts,
    /// Record versions ever landed by the pipeline; none where the ledger could not be read.
    pub total_fetched: Option<i64>,
}

impl Facts {
    /// The report of a run that succeeded.
    pub fn done(self, message: &str) -> Ended {
        self.ended(exit::DONE, COMPLETED, message)
    }

    /// The report of an attempt that failed.
    pub fn failed(self, failure: &Failure) -> Ended {
        self.ended(failure.exit, failure.reason, &failure.message)
    }

    /// The report with a reason of its own.
    pub fn ended(self, exit: u8, reason: &str, message: &str) -> Ended {
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
            published: self.counts.published,
            rejected: self.counts.rejected,
            total_fetched: self.total_fetched,
        };
        Ended { report, exit }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use userpipeline_api::{DataInterval, RunKind};

    use super::*;

    #[test]
    fn the_longest_report_is_a_valid_termination_message() {
        let facts = Facts {
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
                published: i64::MAX,
                rejected: i64::MAX,
            },
            total_fetched: Some(i64::MAX),
        };
        let ended = facts.failed(&Failure::retry("SourceFailed", "\u{1}\"".repeat(9000)));

        let text = userpipeline_runtime::termination_report(&ended.report).unwrap();

        assert!(text.len() < 4096);
        assert_eq!(serde_json::from_str::<RunReport>(&text).unwrap().run_id, ended.report.run_id);
    }
}

//! How a run ended, decided from how fetching ended and what the run counted.

use std::ops::{Add, AddAssign};

use userpipeline_api::report::exit;
use userpipeline_stores::{Class, StoreError};

// The reasons of the report, beside those of the stores.
pub const COMPLETED: &str = "Completed";
pub const ALREADY_DONE: &str = "AlreadyDone";
pub const ALREADY_FAILED: &str = "AlreadyFailed";
pub const BEFORE_START: &str = "BeforeStart";
pub const ALREADY_RUNNING: &str = "AlreadyRunning";
pub const SOURCE_FAILED: &str = "SourceFailed";
pub const SOURCE_REFUSED: &str = "SourceRefused";
pub const TOO_MANY_REJECTS: &str = "TooManyRejects";
/// The run ended before the last page.
pub const INCOMPLETE: &str = "Incomplete";
/// A page leads to itself or to an earlier one.
pub const PAGE_REPEATED: &str = "PageRepeated";
/// The source's response does not match the spec.
pub const RESPONSE_INVALID: &str = "ResponseInvalid";
pub const INTERRUPTED: &str = "Interrupted";
pub use userpipeline_stores::error::PIPELINE_INVALID;
/// The registry does not have the pipeline's schema.
pub const SCHEMA_MISSING: &str = "SchemaMissing";

/// A run with too many rejects ends early once it has so many.
const ENOUGH_REJECTS: i64 = 100;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub pages: i64,
    pub items: i64,
    /// Of the items.
    pub bytes: i64,
    /// Record versions.
    pub landed: i64,
    /// Record versions.
    pub published: i64,
    pub rejected: i64,
}

impl Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            pages: self.pages + other.pages,
            items: self.items + other.items,
            bytes: self.bytes + other.bytes,
            landed: self.landed + other.landed,
            published: self.published + other.published,
            rejected: self.rejected + other.rejected,
        }
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Counts {
    /// With the items of another page, so many of them rejected.
    #[must_use]
    pub fn with(self, items: usize, rejected: usize) -> Self {
        let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        Self {
            items: self.items.saturating_add(number(items)),
            rejected: self.rejected.saturating_add(number(rejected)),
            ..self
        }
    }

    /// Whether the share of rejects is above `max_ratio`: then mapping or source are wrong, not single items.
    #[allow(clippy::cast_precision_loss)] // Counts are far below 2^52.
    pub fn has_too_many_rejects(&self, max_ratio: f64) -> bool {
        self.rejected > 0 && self.rejected as f64 / self.items as f64 > max_ratio
    }

    /// Whether to end the run early, because it would only collect more rejects.
    pub fn should_abort(&self, max_ratio: f64) -> bool {
        self.rejected >= ENOUGH_REJECTS && self.has_too_many_rejects(max_ratio)
    }
}

/// How many items this attempt may fetch: the run's limit, less the records of earlier attempts. Their rejects do not count, so that
/// a run that failed because of them can be repeated once the source is fixed.
pub fn remaining_items(limit: i64, before: Counts) -> i64 {
    (limit - (before.items - before.rejected)).max(0)
}

/// How fetching ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchEnd {
    /// The source has no more items.
    Exhausted,
    /// `spec.source.http.maxRecordsPerRun`
    RecordLimit,
    /// `spec.source.http.runDuration`
    TimeUp,
    /// Too many rejects.
    Aborted,
    /// A stop signal.
    Interrupted,
    /// The source failed, and the run's duration has no room for another attempt.
    SourceFailed {
        /// The last error.
        error: String,
        /// How many requests in a row failed.
        attempts: u32,
        /// Not if the source asks for a longer pause than a run can wait.
        retryable: bool,
    },
    /// The source, or the configuration, refuses the request.
    Refused(Failure),
    /// A limit was reached before the last page.
    Incomplete(Box<FetchEnd>),
}

/// What an attempt that succeeded reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Success {
    pub message: String,
    /// Why data may be missing nevertheless.
    pub warning: Option<String>,
}

impl Success {
    /// Message and warning in one text.
    pub fn text(&self) -> String {
        match &self.warning {
            Some(warning) => format!("{}; warning: {warning}", self.message),
            None => self.message.clone(),
        }
    }
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// In CamelCase.
    pub reason: &'static str,
    pub message: String,
    /// The exit code.
    pub exit: u8,
}

impl Failure {
    /// The Job's next attempt may succeed.
    pub fn retry(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            exit: exit::RETRY,
        }
    }

    /// The next attempt would fail again.
    pub fn configuration(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            exit: exit::CONFIGURATION,
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error.class {
            Class::Transient => Self::retry(error.reason, error.message),
            Class::Configuration => Self::configuration(error.reason, error.message),
        }
    }
}

/// The message of an attempt that succeeded, or why it failed. Only the rejects of this attempt (`counts`) can fail it; the message
/// counts the whole run, and names the first reject of this attempt.
///
/// A source that fails at the end fails the run, even if pages landed before, so that the failure is visible; a repeated run lands
/// nothing twice. A run without anything new, or without any item, is a success.
pub fn decide(
    end: FetchEnd,
    before: Counts,
    counts: Counts,
    first_reject: Option<&str>,
    max_rejected_ratio: f64,
) -> Result<String, Failure> {
    let run = summary(before + counts, first_reject);
    let ended = match end {
        FetchEnd::Exhausted => "the source has no more items",
        FetchEnd::RecordLimit => "spec.source.http.maxRecordsPerRun is reached",
        FetchEnd::TimeUp => "spec.source.http.runDuration is over",
        FetchEnd::Aborted => "the run ended early",
        failed => return Err(failure(failed, &run)),
    };
    if counts.has_too_many_rejects(max_rejected_ratio) {
        let message = format!(
            "{} of {} items were rejected, which is more than spec.source.maxRejectedRatio ({max_rejected_ratio}) allows: see the table userpipeline.rejects ({run})",
            counts.rejected, counts.items
        );
        return Err(Failure::retry(TOO_MANY_REJECTS, message));
    }
    let prefix = if (before + counts).landed == 0 { "nothing new: " } else { "" };
    Ok(format!("{prefix}{run}; {ended}"))
}

fn failure(end: FetchEnd, run: &str) -> Failure {
    match end {
        FetchEnd::Refused(failure) => Failure {
            message: format!("{} ({run})", failure.message),
            ..failure
        },
        FetchEnd::SourceFailed {
            error,
            attempts,
            retryable,
        } => {
            let message = if attempts == 1 {
                format!("the source failed: {error} ({run})")
            } else {
                format!("the source failed {attempts} times in a row; the last error: {error} ({run})")
            };
            if retryable {
                Failure::retry(SOURCE_FAILED, message)
            } else {
                Failure::configuration(SOURCE_FAILED, format!("{message}; the next run tries again"))
            }
        }
        FetchEnd::Incomplete(limit) => {
            let field = if *limit == FetchEnd::RecordLimit {
                "maxRecordsPerRun"
            } else {
                "runDuration"
            };
            let message = format!(
                "the run reached spec.source.http.{field} before the last page, and the next run restarts at the first page: \
                 raise the limit, or request fewer items ({run})"
            );
            Failure::configuration(INCOMPLETE, message)
        }
        _ => Failure::retry(INTERRUPTED, format!("a stop signal ended the run before it was complete ({run})")),
    }
}

fn summary(counts: Counts, first_reject: Option<&str>) -> String {
    let Counts {
        pages,
        items,
        landed,
        published,
        rejected,
        bytes: _,
    } = counts;
    let first = first_reject.map(|first| format!("; the first reject: {first}")).unwrap_or_default();
    format!("pages {pages}, items {items}, landed {landed}, published {published}, rejected {rejected}{first}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(items: i64, landed: i64, rejected: i64) -> Counts {
        Counts {
            pages: 1,
            items,
            bytes: 0,
            landed,
            published: landed,
            rejected,
        }
    }

    fn failing() -> FetchEnd {
        FetchEnd::SourceFailed {
            error: "status 503".into(),
            attempts: 4,
            retryable: true,
        }
    }

    #[test]
    fn a_run_succeeds_only_if_its_source_responded_to_the_end() {
        for (end, counts, reason) in [
            (FetchEnd::Exhausted, counts(10, 10, 0), None),
            (FetchEnd::RecordLimit, counts(10, 10, 0), None),
            (FetchEnd::TimeUp, counts(10, 10, 0), None),
            // Nothing new, and nothing at all.
            (FetchEnd::TimeUp, counts(10, 0, 0), None),
            (FetchEnd::Exhausted, counts(0, 0, 0), None),
            // One in ten may be rejected, not more.
            (FetchEnd::TimeUp, counts(10, 9, 1), None),
            (
                FetchEnd::Incomplete(Box::new(FetchEnd::RecordLimit)),
                counts(5, 5, 0),
                Some(INCOMPLETE),
            ),
            (FetchEnd::TimeUp, counts(19, 17, 2), Some(TOO_MANY_REJECTS)),
            (FetchEnd::Exhausted, counts(1, 0, 1), Some(TOO_MANY_REJECTS)),
            (FetchEnd::Aborted, counts(500, 300, 200), Some(TOO_MANY_REJECTS)),
            // The source failed immediately, or after pages that landed.
            (failing(), Counts::default(), Some(SOURCE_FAILED)),
            (failing(), counts(10, 10, 0), Some(SOURCE_FAILED)),
            (FetchEnd::Interrupted, counts(10, 10, 0), Some(INTERRUPTED)),
            (
                FetchEnd::Refused(Failure::configuration(SOURCE_REFUSED, "status 401")),
                counts(10, 10, 0),
                Some(SOURCE_REFUSED),
            ),
        ] {
            let decided = decide(end.clone(), Counts::default(), counts, None, 0.1);
            assert_eq!(decided.as_ref().err().map(|f| f.reason), reason, "{end:?} {counts:?}: {decided:?}");
        }
    }

    #[test]
    fn the_message_has_the_last_error_and_the_number_of_attempts() {
        let failure = decide(failing(), counts(5, 0, 5), counts(10, 9, 1), None, 0.1).unwrap_err();
        assert_eq!(
            failure.message,
            "the source failed 4 times in a row; the last error: status 503 (pages 2, items 15, landed 9, published 9, rejected 6)"
        );
        assert_eq!(failure.exit, exit::RETRY);
    }

    #[test]
    fn every_message_names_the_first_reject() {
        let first = Some("field `email`, Missing: from /email: missing");
        let message = |end, counts| decide(end, Counts::default(), counts, first, 0.1).unwrap_or_else(|failure| failure.message);
        assert_eq!(
            message(FetchEnd::Exhausted, counts(20, 19, 1)),
            "pages 1, items 20, landed 19, published 19, rejected 1; \
             the first reject: field `email`, Missing: from /email: missing; the source has no more items"
        );
        for (end, rejected) in [(FetchEnd::Exhausted, 20), (failing(), 1), (FetchEnd::Interrupted, 1)] {
            let message = message(end, counts(20, 0, rejected));
            assert!(message.contains("; the first reject: field `email`, Missing: "), "{message}");
        }
    }

    #[test]
    fn rejects_of_an_earlier_attempt_do_not_fail_a_later_one() {
        assert!(decide(FetchEnd::RecordLimit, counts(100, 0, 100), counts(10, 10, 0), None, 0.1).is_ok());
    }

    #[test]
    fn the_message_of_a_run_without_anything_new_starts_with_that() {
        assert!(
            decide(FetchEnd::TimeUp, Counts::default(), counts(10, 0, 0), None, 0.1)
                .unwrap()
                .starts_with("nothing new: ")
        );
    }

    #[test]
    fn a_refusal_keeps_its_exit_code() {
        let refused = Failure::configuration(SOURCE_REFUSED, "status 403");
        assert_eq!(
            decide(FetchEnd::Refused(refused), Counts::default(), Counts::default(), None, 0.1)
                .unwrap_err()
                .exit,
            exit::CONFIGURATION
        );
    }

    #[test]
    fn a_run_ends_early_once_it_has_enough_rejects() {
        assert!(!counts(100, 0, 100).should_abort(1.0), "all may be rejects");
        assert!(counts(100_000, 99_900, 100).should_abort(0.0), "none may be");
        assert!(!counts(50, 0, 50).should_abort(0.1));
        assert!(counts(100, 0, 100).should_abort(0.1));
        assert!(!counts(1000, 900, 100).should_abort(0.1));
        assert!(counts(999, 899, 100).should_abort(0.1));
    }

    #[test]
    fn an_attempt_fetches_what_earlier_ones_left_of_the_limit() {
        for (before, expected) in [
            (counts(0, 0, 0), 1000),
            (counts(300, 300, 0), 700),
            (counts(1000, 1000, 0), 0),
            (counts(1000, 0, 1000), 1000),
            (counts(2000, 2000, 0), 0),
        ] {
            assert_eq!(remaining_items(1000, before), expected, "{before:?}");
        }
    }
}

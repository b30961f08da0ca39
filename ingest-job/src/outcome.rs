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
    /// Landed record versions that do not pass the filter.
    pub filtered: i64,
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
            filtered: self.filtered + other.filtered,
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
    /// The source allows no more requests for longer than `spec.source.http.runDuration` lasts.
    RateLimited {
        /// How long.
        seconds: u64,
    },
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
        FetchEnd::RateLimited { .. } => "the source's rate limit is used up for longer than spec.source.http.runDuration lasts",
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
            let reached = match *limit {
                FetchEnd::RecordLimit => "the run reached spec.source.http.maxRecordsPerRun".to_owned(),
                FetchEnd::RateLimited { seconds } => {
                    format!("the source's rate limit is used up for {seconds} s, and the run would reach spec.source.http.runDuration")
                }
                _ => "the run reached spec.source.http.runDuration".to_owned(),
            };
            let message = format!(
                "{reached} before the last page, and the next run restarts at the first page: raise the limit, or request fewer items ({run})"
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
        filtered,
        published,
        rejected,
        bytes: _,
    } = counts;
    let filtered = if filtered == 0 {
        String::new()
    } else {
        format!(" ({filtered} filtered)")
    };
    let first = first_reject.map(|first| format!("; the first reject: {first}")).unwrap_or_default();
    format!("pages {pages}, items {items}, landed {landed}{filtered}, published {published}, rejected {rejected}{first}")
}

#[cfg(test)]
mod tests;

//! How a run ended, decided from how its fetching ended and what it counted.

use std::ops::{Add, AddAssign};

use userpipeline_api::report::exit;
use userpipeline_stores::{Class, StoreError};

/// The run did what it should.
pub const COMPLETED: &str = "Completed";
/// An earlier attempt of this run has succeeded.
pub const ALREADY_DONE: &str = "AlreadyDone";
/// An earlier Job of this run has failed, and it is not to be tried again.
pub const ALREADY_FAILED: &str = "AlreadyFailed";
/// Its interval begins before the schedule's start.
pub const BEFORE_START: &str = "BeforeStart";
/// Another process is at this run.
pub const ALREADY_RUNNING: &str = "AlreadyRunning";
/// The source failed until the run's time was up.
pub const SOURCE_FAILED: &str = "SourceFailed";
/// The source refuses the request as it is.
pub const SOURCE_REFUSED: &str = "SourceRefused";
/// Too many items are no records.
pub const TOO_MANY_REJECTS: &str = "TooManyRejects";
/// A run was over before the last page.
pub const INCOMPLETE: &str = "Incomplete";
/// The process was told to stop.
pub const INTERRUPTED: &str = "Interrupted";
/// The pipeline's file cannot be used.
pub const PIPELINE_INVALID: &str = "PipelineInvalid";
/// The schema is not in the registry.
pub const SCHEMA_MISSING: &str = "SchemaMissing";

/// After so many rejects, if they are too many, a run does not go on collecting more.
const ENOUGH_REJECTS: i64 = 100;

/// What a run counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that were answered with a page.
    pub pages: i64,
    /// Items the source gave.
    pub items: i64,
    /// Their bytes.
    pub bytes: i64,
    /// Record versions landed.
    pub landed: i64,
    /// Record versions published.
    pub published: i64,
    /// Items refused.
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
    /// With the items of another page, of which so many are no records.
    #[must_use]
    pub fn with(self, items: usize, rejected: usize) -> Self {
        let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        Self {
            items: self.items.saturating_add(number(items)),
            rejected: self.rejected.saturating_add(number(rejected)),
            ..self
        }
    }

    /// Whether a greater share of the items than `most` are no records: then it is not the odd bad item but the mapping, or the
    /// source, that is wrong.
    #[allow(clippy::cast_precision_loss)] // Of numbers that are far below.
    pub fn too_many_rejects(&self, most: f64) -> bool {
        self.rejected > 0 && self.rejected as f64 / self.items as f64 > most
    }

    /// Whether going on would only collect more rejects.
    pub fn hopeless(&self, most: f64) -> bool {
        self.rejected >= ENOUGH_REJECTS && self.too_many_rejects(most)
    }
}

/// How many items this attempt may take: what the records of earlier attempts leave of the run's limit. Rejects of earlier
/// attempts do not count, or a run that failed by them could not be tried again once the source is mended.
pub fn allowance(limit: i64, before: Counts) -> i64 {
    (limit - (before.items - before.rejected)).max(0)
}

/// How fetching ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The source gave an empty page.
    Exhausted,
    /// The run has its number of records.
    Limit,
    /// The run's time is up, and the last request was answered.
    TimeUp,
    /// Rejects only.
    Hopeless,
    /// The process was told to stop.
    Interrupted,
    /// The source failed, and the run's time leaves no room for another try.
    SourceFailed {
        /// The last error.
        error: String,
        /// How many tries in a row failed.
        tries: u32,
        /// Whether another attempt may ask again. Otherwise the source wants to be left alone for longer than a run can wait.
        again: bool,
    },
    /// Trying again without a change is useless, or must be left to a later attempt.
    Refused(Failure),
    /// So it did, by the run's limits, before the last page: the next run would begin at the first one.
    Cut(Box<End>),
}

/// Why a run, or an attempt of it, failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// One CamelCase word.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
    /// The exit code.
    pub exit: u8,
}

impl Failure {
    /// A failure that a later attempt may not meet.
    pub fn retry(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            exit: exit::RETRY,
        }
    }

    /// A failure that somebody must mend.
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

/// Whether the attempt succeeded: with a sentence, or why not. An attempt is judged by its own rejects; the sentence counts
/// the whole run.
///
/// A source that fails at the end fails the run, even if pages landed before: whoever looks at the run must see it, and
/// trying again lands nothing twice. Nothing new, or nothing at all from a source that answers, is a success. `most` is the share of
/// the items that may be no records.
pub fn decide(end: End, before: Counts, counts: Counts, most: f64) -> Result<String, Failure> {
    let whole = before + counts;
    let ended = match end {
        End::Refused(failure) => {
            return Err(Failure {
                message: format!("{} ({})", failure.message, summary(whole)),
                ..failure
            });
        }
        End::Interrupted => {
            return Err(Failure::retry(
                INTERRUPTED,
                format!("told to stop before the run was complete ({})", summary(whole)),
            ));
        }
        End::SourceFailed { error, tries, again } => {
            let times = if tries == 1 {
                "once".to_owned()
            } else {
                format!("{tries} times in a row")
            };
            let message = format!("the source failed {times}, at last: {error} ({})", summary(whole));
            return Err(if again {
                Failure::retry(SOURCE_FAILED, message)
            } else {
                Failure::configuration(SOURCE_FAILED, format!("{message}; the next run asks again"))
            });
        }
        End::Cut(by) => {
            let field = if *by == End::Limit { "maxRecordsPerRun" } else { "runDuration" };
            let message = format!(
                "spec.source.http.{field} was reached before the last page, and the next run would begin at the first one: raise it, or ask for less ({})",
                summary(whole)
            );
            return Err(Failure::configuration(INCOMPLETE, message));
        }
        End::Exhausted => "the source has no more",
        End::Limit => "spec.source.http.maxRecordsPerRun is reached",
        End::TimeUp => "spec.source.http.runDuration is over",
        End::Hopeless => "",
    };
    if counts.too_many_rejects(most) {
        return Err(Failure::retry(
            TOO_MANY_REJECTS,
            format!(
                "{} of {} items are no records, a greater share than spec.source.maxRejectedRatio, {most}; see table userpipeline.rejects ({})",
                counts.rejected,
                counts.items,
                summary(whole)
            ),
        ));
    }
    let news = if whole.landed == 0 { "nothing new: " } else { "" };
    Ok(format!("{news}{}; {ended}", summary(whole)))
}

fn summary(counts: Counts) -> String {
    let Counts {
        pages,
        items,
        landed,
        published,
        rejected,
        bytes: _,
    } = counts;
    format!("pages {pages}, items {items}, landed {landed}, published {published}, rejected {rejected}")
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

    fn failing() -> End {
        End::SourceFailed {
            error: "status 503".into(),
            tries: 4,
            again: true,
        }
    }

    #[test]
    fn a_run_is_green_only_when_its_source_answered_to_the_end() {
        for (end, counts, reason) in [
            (End::Exhausted, counts(10, 10, 0), None),
            (End::Limit, counts(10, 10, 0), None),
            (End::TimeUp, counts(10, 10, 0), None),
            // Nothing new, and nothing at all.
            (End::TimeUp, counts(10, 0, 0), None),
            (End::Exhausted, counts(0, 0, 0), None),
            // One in ten may be bad, not more.
            (End::TimeUp, counts(10, 9, 1), None),
            (End::Cut(Box::new(End::Limit)), counts(5, 5, 0), Some(INCOMPLETE)),
            (End::TimeUp, counts(19, 17, 2), Some(TOO_MANY_REJECTS)),
            (End::Exhausted, counts(1, 0, 1), Some(TOO_MANY_REJECTS)),
            (End::Hopeless, counts(500, 300, 200), Some(TOO_MANY_REJECTS)),
            // The source failed: at once, or after pages that landed.
            (failing(), Counts::default(), Some(SOURCE_FAILED)),
            (failing(), counts(10, 10, 0), Some(SOURCE_FAILED)),
            (End::Interrupted, counts(10, 10, 0), Some(INTERRUPTED)),
            (
                End::Refused(Failure::configuration(SOURCE_REFUSED, "status 401")),
                counts(10, 10, 0),
                Some(SOURCE_REFUSED),
            ),
        ] {
            let decided = decide(end.clone(), Counts::default(), counts, 0.1);
            assert_eq!(decided.as_ref().err().map(|f| f.reason), reason, "{end:?} {counts:?}: {decided:?}");
        }
    }

    #[test]
    fn the_message_says_what_the_last_error_was_and_how_often_it_was_tried() {
        let failure = decide(failing(), counts(5, 0, 5), counts(10, 9, 1), 0.1).unwrap_err();
        assert_eq!(
            failure.message,
            "the source failed 4 times in a row, at last: status 503 (pages 2, items 15, landed 9, published 9, rejected 6)"
        );
        assert_eq!(failure.exit, exit::RETRY);
    }

    #[test]
    fn rejects_of_an_earlier_attempt_do_not_fail_a_later_one() {
        assert!(decide(End::Limit, counts(100, 0, 100), counts(10, 10, 0), 0.1).is_ok());
    }

    #[test]
    fn nothing_new_says_so() {
        assert!(
            decide(End::TimeUp, Counts::default(), counts(10, 0, 0), 0.1)
                .unwrap()
                .starts_with("nothing new: ")
        );
    }

    #[test]
    fn a_refusal_keeps_its_exit_code() {
        let refused = Failure::configuration(SOURCE_REFUSED, "status 403");
        assert_eq!(
            decide(End::Refused(refused), Counts::default(), Counts::default(), 0.1)
                .unwrap_err()
                .exit,
            exit::CONFIGURATION
        );
    }

    #[test]
    fn a_run_does_not_go_on_collecting_rejects() {
        assert!(!counts(100, 0, 100).hopeless(1.0), "all may be rejects");
        assert!(counts(100_000, 99_900, 100).hopeless(0.0), "none may be");
        assert!(!counts(50, 0, 50).hopeless(0.1));
        assert!(counts(100, 0, 100).hopeless(0.1));
        assert!(!counts(1000, 900, 100).hopeless(0.1));
        assert!(counts(999, 899, 100).hopeless(0.1));
    }

    #[test]
    fn an_attempt_takes_what_earlier_ones_left() {
        for (before, expected) in [
            (counts(0, 0, 0), 1000),
            (counts(300, 300, 0), 700),
            (counts(1000, 1000, 0), 0),
            (counts(1000, 0, 1000), 1000),
            (counts(2000, 2000, 0), 0),
        ] {
            assert_eq!(allowance(1000, before), expected, "{before:?}");
        }
    }
}

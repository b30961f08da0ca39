use super::*;

fn counts(items: i64, landed: i64, rejected: i64) -> Counts {
    Counts {
        pages: 1,
        items,
        bytes: 0,
        landed,
        filtered: 0,
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
fn the_message_says_how_many_landed_records_do_not_pass() {
    let filtered = Counts {
        filtered: 4,
        published: 6,
        ..counts(10, 10, 0)
    };
    let message = decide(FetchEnd::Exhausted, Counts::default(), filtered, None, 0.1).unwrap();
    assert!(
        message.contains("items 10, landed 10 (4 filtered), published 6, rejected 0"),
        "{message}"
    );
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

#[test]
fn a_rate_limit_that_outlasts_the_run_ends_it_and_fails_it_before_the_last_page() {
    let limited = || FetchEnd::RateLimited { seconds: 3600 };
    let message = decide(limited(), Counts::default(), counts(10, 10, 0), None, 0.1).unwrap();
    assert!(message.contains("rate limit is used up"), "{message}");
    let failure = decide(
        FetchEnd::Incomplete(Box::new(limited())),
        Counts::default(),
        counts(10, 10, 0),
        None,
        0.1,
    )
    .unwrap_err();
    assert_eq!((failure.reason, failure.exit), (INCOMPLETE, exit::CONFIGURATION));
    assert!(
        failure.message.contains("used up for 3600 s") && failure.message.contains("runDuration before the last page"),
        "{}",
        failure.message
    );
}

//! Why a request gave no page, and whether a retry may help.

use std::time::Duration;

use jiff::{Timestamp, fmt::rfc2822};
use reqwest::{Response, header::RETRY_AFTER};
use userpipeline_stores::error::with_causes;

use crate::outcome::Failure;

/// A longer `Retry-After` is cut to this: it is longer than any run.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(86_400);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// The same request may succeed later.
    Retryable {
        error: String,
        /// The pause that the source asks for.
        retry_after: Option<Duration>,
    },
    /// The same request will fail again.
    Permanent(Failure),
}

impl RequestError {
    pub fn retryable(error: impl Into<String>) -> Self {
        Self::Retryable {
            error: error.into(),
            retry_after: None,
        }
    }
}

/// An error of the client with its causes, without the URL: its path and query may be secret.
pub fn describe(e: reqwest::Error) -> String {
    with_causes(&e.without_url())
}

/// The pause that a response asks for.
pub fn retry_after(response: &Response) -> Option<Duration> {
    let header = response.headers().get(RETRY_AFTER).and_then(|header| header.to_str().ok());
    header.and_then(|header| parse_retry_after(header, Timestamp::now()))
}

/// `Retry-After` is a number of seconds or a date (RFC 9110, 10.2.3).
fn parse_retry_after(header: &str, now: Timestamp) -> Option<Duration> {
    let header = header.trim();
    if !header.is_empty() && header.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(header.parse().map_or(MAX_RETRY_AFTER, Duration::from_secs).min(MAX_RETRY_AFTER));
    }
    let date = rfc2822::DateTimeParser::new().parse_timestamp(header).ok()?;
    Some(
        Duration::try_from(date.duration_since(now))
            .unwrap_or_default()
            .min(MAX_RETRY_AFTER),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now: Timestamp = "2015-10-21T07:27:00Z".parse().unwrap();
        for (header, expected) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Wed, 21 Oct 2015 07:28:00 GMT", Some(60)),
            ("Wed, 21 Oct 2015 07:00:00 GMT", Some(0)),
            ("18446744073709551615", Some(86_400)),
            ("soon", None),
            ("-5", None),
            ("", None),
        ] {
            assert_eq!(parse_retry_after(header, now), expected.map(Duration::from_secs), "{header}");
        }
    }
}

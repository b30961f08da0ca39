//! The pause that a response asks for, however it is expressed. Pure.

use std::time::Duration;

use jiff::{Timestamp, fmt::rfc2822};
use reqwest::header::{HeaderMap, RETRY_AFTER};

/// A longer pause is cut to this: it is longer than any run.
pub const MAX_PAUSE: Duration = Duration::from_secs(86_400);
/// A larger number is a time in seconds since 1970; a smaller one is seconds from now.
const LEAST_EPOCH: f64 = 100_000_000.0;

/// Requests that are left, and when there are more again.
const REMAINING: [&str; 4] = [
    "x-ratelimit-remaining",
    "x-rate-limit-remaining",
    "ratelimit-remaining",
    "x-ratelimit-requests-remaining",
];
const RESET: [&str; 5] = [
    "x-ratelimit-reset",
    "x-rate-limit-reset",
    "ratelimit-reset",
    "x-ratelimit-reset-after",
    "x-ratelimit-requests-reset",
];

/// The pause that the headers ask for; none if they do not limit requests.
pub fn requested_pause(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let pause = text(RETRY_AFTER.as_str()).and_then(|header| retry_after(header, now));
    pause.or_else(|| used_up(headers, now))
}

/// The pause until more requests are allowed; none if requests are left. A success has these headers, too.
pub fn used_up(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    if let Some(pause) = text("ratelimit").and_then(structured) {
        return Some(pause);
    }
    let remaining = REMAINING
        .iter()
        .find_map(|name| text(name))
        .and_then(|text| text.parse::<f64>().ok());
    let is_used_up = remaining.is_some_and(|remaining| remaining <= 0.0);
    let reset = RESET.iter().find_map(|name| text(name)).filter(|_| is_used_up)?;
    reset_in(reset, now)
}

/// `Retry-After` is a number of seconds or a date (RFC 9110, 10.2.3).
fn retry_after(header: &str, now: Timestamp) -> Option<Duration> {
    if !header.is_empty() && header.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(header.parse().map_or(MAX_PAUSE, Duration::from_secs).min(MAX_PAUSE));
    }
    let date = rfc2822::DateTimeParser::new().parse_timestamp(header).ok()?;
    Some(until(date, now))
}

/// `RateLimit: "default";r=0;t=30`, and the form of earlier drafts, `limit=100, remaining=0, reset=30`.
fn structured(header: &str) -> Option<Duration> {
    let mut pauses = header.split([';', ',']).filter_map(|part| part.split_once('='));
    let (mut remaining, mut reset) = (None, None);
    for (name, value) in &mut pauses {
        match name.trim() {
            "r" | "remaining" => remaining = value.trim().parse::<u64>().ok(),
            "t" | "reset" => reset = value.trim().parse::<u64>().ok(),
            _ => {}
        }
        if remaining == Some(0)
            && let Some(seconds) = reset
        {
            return Some(Duration::from_secs(seconds).min(MAX_PAUSE));
        }
    }
    None
}

/// Seconds from now, a time in seconds since 1970, or a date.
fn reset_in(text: &str, now: Timestamp) -> Option<Duration> {
    let Ok(number) = text.trim_end_matches('s').parse::<f64>() else {
        let date = text.parse::<Timestamp>().ok();
        return date
            .or_else(|| rfc2822::DateTimeParser::new().parse_timestamp(text).ok())
            .map(|date| until(date, now));
    };
    if !number.is_finite() || number < 0.0 {
        return None;
    }
    #[allow(clippy::cast_precision_loss)] // Below 2^52.
    let seconds = if number >= LEAST_EPOCH {
        number - now.as_second() as f64
    } else {
        number
    };
    Some(Duration::from_secs_f64(seconds.clamp(0.0, MAX_PAUSE.as_secs_f64())))
}

fn until(date: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(date.duration_since(now)).unwrap_or_default().min(MAX_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_limit_is_recognised_however_it_is_expressed() {
        let now: Timestamp = "2015-10-21T07:27:00Z".parse().unwrap();
        let epoch = (now.as_second() + 90).to_string();
        for (headers, expected) in [
            (&[("retry-after", "120")][..], Some(120)),
            (&[("retry-after", " 0 ")], Some(0)),
            (&[("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT")], Some(60)),
            (&[("retry-after", "Wed, 21 Oct 2015 07:00:00 GMT")], Some(0)),
            (&[("retry-after", "18446744073709551615")], Some(86_400)),
            (&[("retry-after", "soon")], None),
            (&[("retry-after", "-5")], None),
            (&[("retry-after", "")], None),
            (&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", &epoch)], Some(90)),
            (&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "30")], Some(30)),
            (
                &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "2015-10-21T07:27:10Z")],
                Some(10),
            ),
            (&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1")], Some(1)),
            (&[("x-ratelimit-remaining", "0")], None),
            (&[("x-ratelimit-remaining", "1"), ("x-ratelimit-reset", "30")], None),
            (&[("x-ratelimit-reset", "30")], None),
            (&[("ratelimit-remaining", "0"), ("ratelimit-reset", "5")], Some(5)),
            (&[("ratelimit", "\"default\";r=0;t=30")], Some(30)),
            (&[("ratelimit", "limit=100, remaining=0, reset=50")], Some(50)),
            (&[("ratelimit", "\"default\";r=7;t=30")], None),
            (
                &[("retry-after", "7"), ("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "30")],
                Some(7),
            ),
            (&[], None),
        ] {
            let map = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            assert_eq!(
                requested_pause(&map.collect(), now),
                expected.map(Duration::from_secs),
                "{headers:?}"
            );
        }
    }
}

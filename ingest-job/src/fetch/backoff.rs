//! How long to wait before the source is asked again. Pure: the clock and the dice are inputs.

use std::{collections::VecDeque, time::Duration};

use jiff::{Timestamp, fmt::rfc2822};
use tokio::time::Instant;
use userpipeline_api::RateLimit;

/// The wait after the first failure, before jitter.
const FIRST: Duration = Duration::from_millis(500);
/// No wait of ours is longer; one that the source asks for may be.
const LONGEST: Duration = Duration::from_secs(30);
/// Longer than any run: no more of a `Retry-After` is believed.
const DAY: Duration = Duration::from_secs(86_400);

/// The wait after the `failures`-th failure in a row: doubled each time, half of it by chance, so that runs which failed
/// together do not come back together; never sooner than the source asked for. `dice` is in 0 to 1.
pub fn delay(failures: u32, retry_after: Option<Duration>, dice: f64) -> Duration {
    let doubled = FIRST.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(LONGEST);
    let ours = doubled.mul_f64(0.5 + dice.clamp(0.0, 1.0) / 2.0);
    ours.max(retry_after.unwrap_or_default().min(DAY))
}

/// What a `Retry-After` header says: seconds, or a date.
pub fn retry_after(header: &str, now: Timestamp) -> Option<Duration> {
    let header = header.trim();
    if !header.is_empty() && header.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(header.parse().map_or(DAY, Duration::from_secs).min(DAY));
    }
    let date = rfc2822::DateTimeParser::new().parse_timestamp(header).ok()?;
    Some(Duration::try_from(date.duration_since(now)).unwrap_or_default().min(DAY))
}

/// The rate limit: at most so many requests in any window of so long.
#[derive(Debug)]
pub struct Pace {
    requests: usize,
    per: Duration,
    recent: VecDeque<Instant>,
}

impl Pace {
    /// The pace of a rate limit.
    pub fn of(limit: &RateLimit) -> Self {
        let requests = usize::try_from(limit.requests).unwrap_or(1).max(1);
        Self {
            requests,
            per: limit.per.into(),
            recent: VecDeque::new(),
        }
    }

    /// How long to wait before the next request.
    pub fn wait(&self, now: Instant) -> Duration {
        match self.recent.front() {
            Some(&first) if self.recent.len() >= self.requests => (first + self.per).saturating_duration_since(now),
            _ => Duration::ZERO,
        }
    }

    /// Notes a request.
    pub fn asked(&mut self, now: Instant) {
        if self.recent.len() >= self.requests {
            self.recent.pop_front();
        }
        self.recent.push_back(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn waits_double_up_to_a_bound_and_half_of_them_is_chance() {
        for (failures, dice, expected) in [
            (1, 1.0, 500),
            (1, 0.0, 250),
            (2, 1.0, 1000),
            (3, 0.5, 1500),
            (6, 1.0, 16_000),
            (7, 1.0, 30_000),
            (u32::MAX, 1.0, 30_000),
            (0, 1.0, 500),
        ] {
            assert_eq!(delay(failures, None, dice), ms(expected), "{failures} {dice}");
        }
    }

    #[test]
    fn the_source_may_ask_for_longer_waits_but_not_for_none() {
        assert_eq!(delay(1, Some(ms(70_000)), 0.5), ms(70_000));
        assert_eq!(delay(3, Some(ms(0)), 1.0), ms(2000));
        assert_eq!(delay(1, Some(Duration::MAX), 1.0), DAY);
    }

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
            assert_eq!(retry_after(header, now), expected.map(Duration::from_secs), "{header}");
        }
    }

    #[test]
    fn no_window_has_more_requests_than_allowed() {
        let start = Instant::now();
        let mut pace = Pace::of(&RateLimit {
            requests: 2,
            per: ms(1000).into(),
        });
        let mut now = start;
        let mut at = Vec::new();
        for _ in 0..5 {
            now += pace.wait(now);
            pace.asked(now);
            at.push((now - start).as_millis());
            now += ms(100);
        }
        assert_eq!(at, [0, 100, 1000, 1100, 2000]);
    }
}

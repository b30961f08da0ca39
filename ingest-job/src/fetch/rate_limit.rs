//! The rate limit: at most a number of requests in any window of time. Pure: the clock is an input.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;
use userpipeline_api::RateLimit;

#[derive(Debug)]
pub struct RateLimiter {
    requests: usize,
    window: Duration,
    recent: VecDeque<Instant>,
}

impl RateLimiter {
    pub fn of(limit: &RateLimit) -> Self {
        Self {
            requests: usize::try_from(limit.requests).unwrap_or(1).max(1),
            window: limit.per.into(),
            recent: VecDeque::new(),
        }
    }

    /// The time until the next request is allowed.
    pub fn delay(&self, now: Instant) -> Duration {
        match self.recent.front() {
            Some(&first) if self.recent.len() >= self.requests => (first + self.window).saturating_duration_since(now),
            _ => Duration::ZERO,
        }
    }

    pub fn record_request(&mut self, now: Instant) {
        if self.recent.len() >= self.requests {
            self.recent.pop_front();
        }
        self.recent.push_back(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_window_has_more_requests_than_allowed() {
        let start = Instant::now();
        let mut limiter = RateLimiter::of(&RateLimit {
            requests: 2,
            per: Duration::from_secs(1).into(),
        });
        let mut now = start;
        let mut at = Vec::new();
        for _ in 0..5 {
            now += limiter.delay(now);
            limiter.record_request(now);
            at.push((now - start).as_millis());
            now += Duration::from_millis(100);
        }
        assert_eq!(at, [0, 100, 1000, 1100, 2000]);
    }
}

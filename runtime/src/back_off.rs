//! Delays between attempts.

use std::time::Duration;

/// Delays of one series of attempts. They double up to a limit, with jitter between a half and the whole of each.
#[derive(Clone, Debug)]
pub struct BackOff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl BackOff {
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            failures: 0,
        }
    }

    /// The number of failures in a row.
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// Counts a failure. Returns the delay before the next attempt.
    pub fn next_delay(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let delay = doubled(self.first, self.longest, self.failures);
        random_between(delay / 2, delay)
    }

    pub const fn reset(&mut self) {
        self.failures = 0;
    }
}

/// The delay after so many failures in a row, without jitter: `first`, doubled with each further failure, up to `longest`.
pub fn doubled(first: Duration, longest: Duration, failures: u32) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(longest)
}

/// A random duration, so that processes that failed together do not return together.
pub fn random_between(shortest: Duration, longest: Duration) -> Duration {
    shortest + longest.saturating_sub(shortest).mul_f64(fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn delays_double_up_to_the_limit() {
        for (failures, expected) in [
            (0, 500),
            (1, 500),
            (2, 1000),
            (3, 2000),
            (6, 16_000),
            (7, 30_000),
            (u32::MAX, 30_000),
        ] {
            assert_eq!(doubled(ms(500), ms(30_000), failures), ms(expected), "{failures}");
        }
    }

    #[test]
    fn jitter_is_within_its_bounds() {
        for _ in 0..1000 {
            assert!((ms(400)..=ms(600)).contains(&random_between(ms(400), ms(600))));
        }
    }

    #[test]
    fn a_series_restarts_after_a_reset() {
        let mut back_off = BackOff::new(ms(200), ms(10_000));
        for failures in 1..30 {
            let whole = doubled(ms(200), ms(10_000), failures);
            let delay = back_off.next_delay();
            assert!((whole / 2..=whole).contains(&delay), "{delay:?} of {whole:?}");
            assert_eq!(back_off.failures(), failures);
        }
        back_off.reset();
        assert!(back_off.next_delay() <= ms(200));
    }
}

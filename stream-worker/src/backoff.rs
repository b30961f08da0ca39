//! Delays between attempts.

use std::time::Duration;

use uuid::Uuid;

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(10);

/// Delays that double up to a limit, with jitter between a half and the whole of each.
#[derive(Debug, Default)]
pub struct Backoff {
    attempts: u32,
}

impl Backoff {
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }

    pub fn next_delay(&mut self) -> Duration {
        let delay = FIRST.saturating_mul(2_u32.saturating_pow(self.attempts.min(16))).min(LONGEST);
        self.attempts = self.attempts.saturating_add(1);
        let jitter = u32::try_from(Uuid::new_v4().as_u128() % 1000).unwrap_or(0);
        delay / 2 + delay / 2 * jitter / 1000
    }

    pub const fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_up_to_the_limit_and_restart_after_a_reset() {
        let mut backoff = Backoff::default();
        for exponent in 0..30 {
            let full = FIRST.saturating_mul(2_u32.pow(exponent.min(16))).min(LONGEST);
            let delay = backoff.next_delay();
            assert!(delay >= full / 2 && delay <= full, "{delay:?} of {full:?}");
        }
        backoff.reset();
        assert!(backoff.next_delay() <= FIRST);
    }
}

//! How long to wait before the next attempt.

use std::time::Duration;

use uuid::Uuid;

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(10);

/// Waits that double up to a limit, each cut by chance, so that many workers do not come back at once.
#[derive(Debug, Default)]
pub struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// How many waits there were.
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The next wait.
    pub fn wait(&mut self) -> Duration {
        let wait = FIRST.saturating_mul(2_u32.saturating_pow(self.attempts.min(16))).min(LONGEST);
        self.attempts = self.attempts.saturating_add(1);
        // Between half of it and all of it.
        let chance = u32::try_from(Uuid::new_v4().as_u128() % 1000).unwrap_or(0);
        wait / 2 + wait / 2 * chance / 1000
    }

    /// Starts anew after a success.
    pub const fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_the_limit_and_start_anew() {
        let mut backoff = Backoff::default();
        for exponent in 0..30 {
            let full = FIRST.saturating_mul(2_u32.pow(exponent.min(16))).min(LONGEST);
            let wait = backoff.wait();
            assert!(wait >= full / 2 && wait <= full, "{wait:?} of {full:?}");
        }
        backoff.reset();
        assert!(backoff.wait() <= FIRST);
    }
}

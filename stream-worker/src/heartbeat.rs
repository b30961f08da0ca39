//! Whether the polling thread is alive.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// Longer than anything the thread waits for.
const LIMIT: Duration = Duration::from_secs(120);

/// When the polling thread last reported.
#[derive(Debug)]
pub struct Heartbeat {
    started: Instant,
    /// Milliseconds since the start, plus one; 0 while there is no thread.
    last: AtomicU64,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            last: AtomicU64::new(0),
        }
    }
}

impl Heartbeat {
    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis())
            .unwrap_or(u64::MAX)
            .saturating_add(1)
    }

    pub fn beat(&self) {
        self.last.store(self.now(), Ordering::Relaxed);
    }

    pub fn stop(&self) {
        self.last.store(0, Ordering::Relaxed);
    }

    /// False where a thread runs and has not reported within the limit.
    pub fn is_alive(&self) -> bool {
        let last = self.last.load(Ordering::Relaxed);
        last == 0 || u128::from(self.now().saturating_sub(last)) < LIMIT.as_millis()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_alive_without_a_thread_and_while_its_thread_reports() {
        let mut heartbeat = Heartbeat::default();
        assert!(heartbeat.is_alive());
        heartbeat.beat();
        assert!(heartbeat.is_alive());
        heartbeat.started = Instant::now().checked_sub(LIMIT * 2).unwrap();
        assert!(!heartbeat.is_alive());
        heartbeat.stop();
        assert!(heartbeat.is_alive());
    }
}

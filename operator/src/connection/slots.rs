//! How many check Jobs run at the same time: all would be due at once when the operator is installed, or many connections change.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::pipeline::ConnectionId;

const AT_ONCE: usize = 5;
/// A Job counts for this time: one whose pod cannot run must not block the others.
const COUNTS_FOR: Duration = Duration::from_secs(300);

/// The connections whose check Jobs run, and since when.
#[derive(Default)]
pub struct CheckSlots(Mutex<HashMap<ConnectionId, Instant>>);

impl CheckSlots {
    fn running(&self) -> MutexGuard<'_, HashMap<ConnectionId, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a Job may start now. It counts until [`Self::release`].
    pub fn take(&self, connection: &ConnectionId, now: Instant) -> bool {
        let mut running = self.running();
        let is_other = |(other, since): &(&ConnectionId, &Instant)| *other != connection && now.duration_since(**since) < COUNTS_FOR;
        let is_free = running.iter().filter(is_other).count() < AT_ONCE;
        if is_free {
            running.insert(connection.clone(), now);
        }
        is_free
    }

    /// A Job runs, perhaps of an earlier operator.
    pub fn occupy(&self, connection: &ConnectionId, now: Instant) {
        self.running().entry(connection.clone()).or_insert(now);
    }

    pub fn release(&self, connection: &ConnectionId) {
        self.running().remove(connection);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> ConnectionId {
        ConnectionId {
            namespace: "demo".to_owned(),
            name: format!("c{n}"),
        }
    }

    #[test]
    fn five_jobs_run_at_the_same_time_and_none_counts_for_ever() {
        let (slots, start) = (CheckSlots::default(), Instant::now());
        let take = |n: usize, second: u64| slots.take(&id(n), start + Duration::from_secs(second));
        slots.occupy(&id(0), start);
        assert!((1..AT_ONCE).all(|n| take(n, 0)));
        assert!(!take(9, 1));
        assert!(take(3, 1), "its own does not count");
        slots.release(&id(2));
        assert!(take(9, 2));
        assert!(!take(8, 299));
        assert!(take(8, 301), "the oldest no longer counts");
    }
}

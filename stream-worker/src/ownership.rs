//! Which partitions are this worker's at this moment.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use uuid::Uuid;

/// Which partitions this worker owns, and under which token: shared by the thread that is assigned them and the writer.
#[derive(Debug, Default)]
pub struct Ownership(Mutex<BTreeMap<i32, Uuid>>);

impl Ownership {
    fn tokens(&self) -> MutexGuard<'_, BTreeMap<i32, Uuid>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A partition was claimed.
    pub fn take(&self, partition: i32, token: Uuid) {
        self.tokens().insert(partition, token);
    }

    /// A partition is no longer ours.
    pub fn release(&self, partition: i32) {
        self.tokens().remove(&partition);
    }

    /// Whether a partition is ours under this token.
    pub fn holds(&self, partition: i32, token: Uuid) -> bool {
        self.tokens().get(&partition) == Some(&token)
    }
}

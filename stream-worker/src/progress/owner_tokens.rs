//! Which partitions this worker owns at this moment.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use uuid::Uuid;

/// The owner tokens of this worker's partitions, shared by the polling thread and the writer.
#[derive(Debug, Default)]
pub struct OwnerTokens(Mutex<BTreeMap<i32, Uuid>>);

impl OwnerTokens {
    fn tokens(&self) -> MutexGuard<'_, BTreeMap<i32, Uuid>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn grant(&self, partition: i32, token: Uuid) {
        self.tokens().insert(partition, token);
    }

    pub fn release(&self, partition: i32) {
        self.tokens().remove(&partition);
    }

    pub fn holds(&self, partition: i32, token: Uuid) -> bool {
        self.tokens().get(&partition) == Some(&token)
    }
}

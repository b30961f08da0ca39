//! Why an attempt to write a batch failed.

use std::collections::BTreeSet;

use userpipeline_stores::StoreError;

use crate::model::Faults;

/// The stores' names in the metric of retries; sinks have their own.
pub const BOOKKEEPING: &str = "postgres";
pub const REGISTRY: &str = "registry";
pub const DEAD_LETTERS: &str = "kafka";

pub enum Failure {
    /// A store failed: its name, and why.
    Store(&'static str, StoreError),
    /// Partitions have another owner.
    Fenced(BTreeSet<i32>),
    /// Sinks refuse records because of their content.
    Refused(Faults),
    TooManyDeadLetters {
        bad: usize,
        read: usize,
    },
}

impl Failure {
    /// A failure of the bookkeeping's database.
    pub const fn bookkeeping(error: StoreError) -> Self {
        Self::Store(BOOKKEEPING, error)
    }
}

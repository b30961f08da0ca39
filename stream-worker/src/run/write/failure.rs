//! Why an attempt to write a batch failed.

use std::collections::BTreeSet;

use userpipeline_stores::StoreError;

use crate::{model::Faults, sinks};

/// What a batch needs, and what may fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    Bookkeeping,
    Registry,
    DeadLetters,
    /// Its name.
    Sink(&'static str),
}

impl Store {
    /// As in the metric of retries.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bookkeeping => "postgres",
            Self::Registry => "registry",
            Self::DeadLetters => "kafka",
            Self::Sink(name) => name,
        }
    }

    pub fn all() -> impl Iterator<Item = Self> {
        let sinks = sinks::ALL.iter().map(|sink| Self::Sink(sink.name()));
        [Self::Bookkeeping, Self::Registry, Self::DeadLetters].into_iter().chain(sinks)
    }
}

pub enum Failure {
    Store(Store, StoreError),
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
        Self::Store(Store::Bookkeeping, error)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_names_that_alerts_use_are_those_of_the_stores() {
        let names: BTreeSet<&str> = Store::all().map(Store::name).collect();
        assert!(
            names.is_superset(&["cassandra", "kafka", "postgres", "registry"].into()),
            "{names:?}"
        );
    }
}

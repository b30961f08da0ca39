//! Gives batches to the writer, one at a time.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use tokio::sync::mpsc;
use uuid::Uuid;

use super::buffer::Buffer;
use crate::run::batch::Batch;

pub struct HandOver {
    batches: mpsc::Sender<Batch>,
    /// The partitions of the batch that is being written.
    in_flight: Option<BTreeSet<i32>>,
    /// A batch was abandoned because the worker is to stop: what follows it must not be stored, or it would be skipped.
    abandoned: bool,
}

impl HandOver {
    pub const fn new(batches: mpsc::Sender<Batch>) -> Self {
        Self {
            batches,
            in_flight: None,
            abandoned: false,
        }
    }

    pub const fn is_busy(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Whether the batch that is being written has one of these partitions.
    pub fn has_any(&self, partitions: &[i32]) -> bool {
        self.in_flight
            .as_ref()
            .is_some_and(|in_flight| partitions.iter().any(|p| in_flight.contains(p)))
    }

    pub fn done(&mut self, abandoned: bool) {
        self.in_flight = None;
        if abandoned {
            tracing::warn!("a batch cannot be stored now: what was taken and not stored will be delivered again");
            self.abandoned = true;
        }
    }

    /// Gives the writer what was gathered, when it is due (or `at_once`) and the writer is free.
    pub fn give(&mut self, buffer: &mut Buffer, at_once: bool, token: impl Fn(i32) -> Option<Uuid>) {
        let due = buffer.due_in(Instant::now()).is_some_and(|due| at_once || due.is_zero());
        if !due || self.in_flight.is_some() || self.abandoned {
            return;
        }
        let mut batch = Batch {
            messages: buffer.take(),
            owners: BTreeMap::new(),
        };
        for message in &batch.messages {
            if let Some(token) = token(message.partition) {
                batch.owners.insert(message.partition, token);
            }
        }
        let partitions = batch.owners.keys().copied().collect();
        // There is room for one, and none is in flight; without a receiver the session ends.
        if self.batches.try_send(batch).is_ok() {
            self.in_flight = Some(partitions);
        }
    }
}

//! Commits to Kafka the offsets that the stores have.

use std::{
    collections::BTreeMap,
    sync::{Arc, mpsc::Sender},
    time::{Duration, Instant},
};

use rdkafka::{
    consumer::{CommitMode, Consumer as _},
    topic_partition_list::{Offset, TopicPartitionList},
};
use tokio::runtime::Handle;

use super::{event::Event, group::Group};
use crate::context::WorkerContext;

/// Between two commits. What a worker that crashes has stored since the last one is read again; the progress rows count it once.
const EVERY: Duration = Duration::from_millis(200);
/// Offsets whose commit failed are committed again after this long.
const COMMIT_AGAIN: Duration = Duration::from_secs(5);

pub struct Committer {
    context: Arc<WorkerContext>,
    group: Group,
    events: Sender<Event>,
    runtime: Handle,
    /// The next offsets of partitions that are stored and not committed.
    uncommitted: BTreeMap<i32, i64>,
    is_committing: bool,
    /// No commit begins before.
    next_at: Instant,
}

impl Committer {
    pub fn new(context: &Arc<WorkerContext>, group: &Group, events: &Sender<Event>) -> Self {
        Self {
            context: Arc::clone(context),
            group: group.clone(),
            events: events.clone(),
            runtime: Handle::current(),
            uncommitted: BTreeMap::new(),
            is_committing: false,
            next_at: Instant::now(),
        }
    }

    pub fn stored(&mut self, partition: i32, next: i64) {
        self.uncommitted.insert(partition, next);
    }

    pub fn forget(&mut self, partition: i32) {
        self.uncommitted.remove(&partition);
    }

    /// Commits what is stored, without waiting for it; one commit at a time. librdkafka does not report how an asynchronous
    /// commit ended, so another thread waits for a synchronous one.
    pub fn commit(&mut self) {
        if self.is_committing || self.uncommitted.is_empty() || Instant::now() < self.next_at {
            return;
        }
        let (offsets, list) = self.offsets(None);
        let (consumer, events) = (Arc::clone(&self.group.consumer), self.events.clone());
        self.is_committing = true;
        let span = tracing::Span::current();
        self.runtime.spawn_blocking(move || {
            let _entered = span.entered();
            let result = consumer.commit(&list, CommitMode::Sync);
            if let Err(e) = &result {
                tracing::info!(error = %e, "offsets were not committed");
            }
            // The receiver is gone only where the session has ended.
            let _ = events.send(Event::Committed(offsets, result.is_ok()));
        });
    }

    pub fn committed(&mut self, offsets: &BTreeMap<i32, i64>, done: bool) {
        self.is_committing = false;
        // A failure is no loss: the progress rows have the offsets, and they are committed again.
        self.next_at = Instant::now() + if done { EVERY } else { COMMIT_AGAIN };
        if done {
            self.uncommitted
                .retain(|partition, next| offsets.get(partition).is_none_or(|done| done < next));
            self.context.status.committed();
        }
    }

    /// Commits what is stored, and waits for it: of all partitions, or of some.
    pub fn commit_now(&self, only: Option<&[i32]>) {
        let (offsets, list) = self.offsets(only);
        if offsets.is_empty() {
            return;
        }
        match self.group.consumer.commit(&list, CommitMode::Sync) {
            Ok(()) => self.context.status.committed(),
            Err(e) => tracing::info!(error = %e, "offsets were not committed"),
        }
    }

    fn offsets(&self, only: Option<&[i32]>) -> (BTreeMap<i32, i64>, TopicPartitionList) {
        let offsets: BTreeMap<i32, i64> = self
            .uncommitted
            .iter()
            .filter(|(p, _)| only.is_none_or(|only| only.contains(p)))
            .map(|(p, o)| (*p, *o))
            .collect();
        let mut list = TopicPartitionList::new();
        for (partition, next) in &offsets {
            if let Err(e) = list.add_partition_offset(&self.group.topic, *partition, Offset::Offset(*next)) {
                tracing::warn!(partition, offset = next, error = %e, "an offset that cannot be committed");
            }
        }
        (offsets, list)
    }
}

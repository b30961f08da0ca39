//! What the thread commits to Kafka: offsets that the stores have.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use rdkafka::{
    consumer::{CommitMode, Consumer as _},
    topic_partition_list::{Offset, TopicPartitionList},
};

use super::{Event, thread::Poller};

/// Offsets whose commit failed are committed again after this long.
const COMMIT_AGAIN: Duration = Duration::from_secs(5);

impl Poller {
    /// Commits what is stored, without waiting for it; one commit at a time. librdkafka tells nobody how an asynchronous
    /// commit ended, so another thread waits for a synchronous one.
    pub(super) fn commit(&mut self) {
        if self.committing || self.uncommitted.is_empty() || self.commit_failed_at.is_some_and(|at| at.elapsed() < COMMIT_AGAIN) {
            return;
        }
        let (offsets, list) = self.offsets(None);
        let (consumer, sender) = (Arc::clone(&self.consumer), self.sender.clone());
        self.committing = true;
        let span = tracing::Span::current();
        self.runtime.spawn_blocking(move || {
            let _entered = span.entered();
            let result = consumer.commit(&list, CommitMode::Sync);
            if let Err(e) = &result {
                tracing::info!(error = %e, "offsets were not committed");
            }
            // The thread is gone only where nobody needs the answer.
            let _ = sender.send(Event::Committed(offsets, result.is_ok()));
        });
    }

    pub(super) fn committed(&mut self, offsets: &BTreeMap<i32, i64>, done: bool) {
        self.committing = false;
        // A failure is no loss: the progress rows have the offsets, and they are committed again.
        self.commit_failed_at = (!done).then(Instant::now);
        if done {
            self.uncommitted
                .retain(|partition, next| offsets.get(partition).is_none_or(|done| done < next));
            self.shared.status.committed();
        }
    }

    /// Commits what is stored, and waits for it: of all partitions, or of some.
    pub(super) fn commit_now(&mut self, only: Option<&[i32]>) {
        let (offsets, list) = self.offsets(only);
        if offsets.is_empty() {
            return;
        }
        match self.consumer.commit(&list, CommitMode::Sync) {
            Ok(()) => self.shared.status.committed(),
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
            if let Err(e) = list.add_partition_offset(&self.rows.topic, *partition, Offset::Offset(*next)) {
                tracing::warn!(partition, offset = next, error = %e, "an offset that cannot be committed");
            }
        }
        (offsets, list)
    }
}

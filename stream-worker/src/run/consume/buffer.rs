//! Gathers messages of each partition until they are due: at once where nothing is being written, else when there are enough of
//! them, or after a time. Pure; the clock is an input.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use userpipeline_api::Batch as Limits;

use crate::{model::Message, run::batch::WRITERS};

/// Bytes of a batch, which may exceed them with its last message. Bounds the memory: each writer has a batch as messages, as records
/// and as values for each store, while as much is gathered.
const MAX_BYTES: usize = 1 << 20;

/// The messages of a partition that are not in a batch yet.
#[derive(Debug)]
struct Waiting {
    messages: VecDeque<Message>,
    since: Instant,
}

#[derive(Debug)]
pub struct Buffer {
    partitions: BTreeMap<i32, Waiting>,
    records: usize,
    bytes: usize,
    max_records: usize,
    max_latency: Duration,
}

impl Buffer {
    pub fn new(limits: &Limits) -> Self {
        Self {
            partitions: BTreeMap::new(),
            records: 0,
            bytes: 0,
            max_records: usize::try_from(limits.max_records).unwrap_or(1).max(1),
            max_latency: std::time::Duration::from(limits.max_latency),
        }
    }

    pub fn push(&mut self, message: Message, now: Instant) {
        self.records += 1;
        self.bytes += message.size();
        let waiting = self.partitions.entry(message.partition).or_insert_with(|| Waiting {
            messages: VecDeque::new(),
            since: now,
        });
        waiting.messages.push_back(message);
    }

    /// Whether there is a batch for each writer.
    pub const fn is_full(&self) -> bool {
        self.records >= WRITERS * self.max_records || self.bytes >= WRITERS * MAX_BYTES
    }

    /// The partitions of the next batch; none where it is better to wait. `busy`: those that are being written.
    pub fn due(&self, busy: &BTreeSet<i32>, now: Instant) -> Vec<i32> {
        let mut free: Vec<(Instant, i32, usize)> = self.free(busy).map(|(p, w)| (w.since, p, w.messages.len())).collect();
        free.sort_unstable();
        let Some((oldest, ..)) = free.first() else { return Vec::new() };
        let enough = self.is_full() || free.iter().map(|(.., records)| records).sum::<usize>() >= self.max_records;
        let taken = if enough {
            // Each writer has its share of the partitions, so that all of them work.
            (free.len() + busy.len()).div_ceil(WRITERS)
        } else if busy.is_empty() || now >= *oldest + self.max_latency {
            free.len()
        } else {
            0
        };
        free.into_iter().take(taken).map(|(_, partition, _)| partition).collect()
    }

    /// The partitions that have messages and are not being written.
    pub fn free_partitions(&self, busy: &BTreeSet<i32>) -> Vec<i32> {
        self.free(busy).map(|(partition, _)| partition).collect()
    }

    /// How long until messages are due that wait for no writer.
    pub fn due_in(&self, busy: &BTreeSet<i32>, now: Instant) -> Option<Duration> {
        let oldest = self.free(busy).map(|(_, waiting)| waiting.since).min()?;
        Some((oldest + self.max_latency).saturating_duration_since(now))
    }

    /// Takes messages of these partitions, as many as a batch has at most. Of each partition, the first ones.
    pub fn take(&mut self, partitions: &[i32], now: Instant) -> Vec<Message> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        for partition in partitions {
            let Some(waiting) = self.partitions.get_mut(partition) else {
                continue;
            };
            let before = batch.len();
            while batch.len() < self.max_records
                && bytes < MAX_BYTES
                && let Some(message) = waiting.messages.pop_front()
            {
                bytes += message.size();
                batch.push(message);
            }
            if waiting.messages.is_empty() {
                self.partitions.remove(partition);
            } else if batch.len() > before {
                waiting.since = now;
            }
        }
        self.records -= batch.len();
        self.bytes -= bytes;
        batch
    }

    pub fn forget(&mut self, partition: i32) {
        if let Some(waiting) = self.partitions.remove(&partition) {
            self.records -= waiting.messages.len();
            self.bytes -= waiting.messages.iter().map(Message::size).sum::<usize>();
        }
    }

    fn free(&self, busy: &BTreeSet<i32>) -> impl Iterator<Item = (i32, &Waiting)> {
        let waiting = self.partitions.iter().map(|(partition, waiting)| (*partition, waiting));
        waiting.filter(|(partition, _)| !busy.contains(partition))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATENCY: Duration = Duration::from_secs(1);

    fn buffer(max_records: i32) -> Buffer {
        Buffer::new(&Limits {
            max_records,
            max_latency: LATENCY.into(),
        })
    }

    fn message(partition: i32, offset: i64, payload: usize) -> Message {
        Message {
            partition,
            offset,
            payload: Some(vec![0; payload]),
            ..Message::default()
        }
    }

    /// A buffer with so many messages of partitions 0, 1, 2.
    fn filled(max_records: i32, counts: &[i64], now: Instant) -> Buffer {
        let mut buffer = buffer(max_records);
        for (partition, count) in (0..).zip(counts) {
            for offset in 0..*count {
                buffer.push(message(partition, offset, 1), now);
            }
        }
        buffer
    }

    #[test]
    fn messages_are_due_at_once_or_when_there_are_enough_or_after_a_time() {
        let now = Instant::now();
        let early = now + LATENCY / 2;
        for (counts, busy, at, due) in [
            // Nothing is being written.
            (&[][..], &[][..], early, &[][..]),
            (&[1, 1], &[], early, &[0, 1]),
            // Something is: they gather.
            (&[1, 1], &[1], early, &[]),
            (&[0, 1], &[1], now + LATENCY, &[]),
            (&[1, 1, 1], &[1], now + LATENCY, &[0, 2]),
            (&[9, 9], &[1], early, &[]),
            // There is a batch: half of the partitions.
            (&[10], &[1], early, &[0]),
            (&[4, 9, 6], &[1], early, &[0, 2]),
            (&[10, 10, 10], &[], early, &[0, 1]),
            // The buffer is full of what is being written.
            (&[2, 18], &[1], early, &[0]),
            (&[0, 20], &[1], early, &[]),
        ] {
            let busy = busy.iter().copied().collect();
            assert_eq!(filled(10, counts, now).due(&busy, at), due, "{counts:?} {busy:?}");
        }
    }

    #[test]
    fn those_that_wait_longest_come_first() {
        let now = Instant::now();
        let mut buffer = filled(2, &[0, 2], now);
        buffer.push(message(0, 0, 1), now + LATENCY / 4);
        buffer.push(message(0, 1, 1), now + LATENCY / 4);
        assert_eq!(buffer.due(&BTreeSet::new(), now + LATENCY / 2), [1]);
        assert_eq!(buffer.due_in(&BTreeSet::from([1]), now + LATENCY / 2), Some(LATENCY * 3 / 4));
        assert_eq!(buffer.due_in(&BTreeSet::from([0, 1]), now), None);
    }

    #[test]
    fn a_batch_has_the_first_messages_of_each_partition_within_its_limits() {
        let now = Instant::now();
        let mut buffer = filled(4, &[3, 3], now);
        let origins = |batch: Vec<Message>| batch.iter().map(Message::origin).collect::<Vec<_>>();
        assert_eq!(origins(buffer.take(&[0, 1], now)), [(0, 0), (0, 1), (0, 2), (1, 0)]);
        assert_eq!(origins(buffer.take(&[0, 1], now)), [(1, 1), (1, 2)]);
        assert!(buffer.take(&[0, 1], now).is_empty());

        for offset in 0..3 {
            buffer.push(message(0, offset, MAX_BYTES / 2), now);
        }
        assert_eq!(buffer.take(&[0], now).len(), 2);
        buffer.push(message(0, 3, 2 * MAX_BYTES), now);
        assert!(buffer.is_full());
    }

    #[test]
    fn a_partition_that_had_no_room_in_a_batch_does_not_begin_to_wait_again() {
        let now = Instant::now();
        let mut buffer = filled(2, &[2, 1], now);
        let later = now + LATENCY / 2;
        assert_eq!(buffer.take(&[0, 1], later).len(), 2);
        assert_eq!(buffer.due_in(&BTreeSet::from([0]), later), Some(LATENCY / 2));
    }

    #[test]
    fn what_was_taken_or_revoked_is_gone() {
        let now = Instant::now();
        let mut buffer = filled(2, &[2, 2], now);
        assert!(buffer.is_full());
        buffer.forget(0);
        assert!(!buffer.is_full());
        assert_eq!(buffer.take(&[0, 1], now).len(), 2);
        assert_eq!((buffer.records, buffer.bytes, buffer.partitions.len()), (0, 0, 0));
    }
}

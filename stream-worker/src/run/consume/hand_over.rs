//! Gives batches to the writers, one at a time to each. A partition is in one batch at a time, so its messages keep their order.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;
use uuid::Uuid;

use super::buffer::Buffer;
use crate::run::batch::Batch;

struct Writer {
    batches: mpsc::Sender<Batch>,
    /// The partitions of the batch that it writes.
    in_flight: BTreeSet<i32>,
}

pub struct HandOver {
    writers: Vec<Writer>,
    /// A batch was abandoned because the worker is to stop: what follows it must not be stored, or it would be skipped.
    abandoned: bool,
}

impl HandOver {
    pub fn new(writers: Vec<mpsc::Sender<Batch>>) -> Self {
        let writers = writers.into_iter().map(|batches| Writer {
            batches,
            in_flight: BTreeSet::new(),
        });
        Self {
            writers: writers.collect(),
            abandoned: false,
        }
    }

    pub fn is_busy(&self) -> bool {
        self.writers.iter().any(|writer| !writer.in_flight.is_empty())
    }

    /// Whether a batch that is being written has one of these partitions.
    pub fn has_any(&self, partitions: &[i32]) -> bool {
        let busy = self.busy();
        partitions.iter().any(|partition| busy.contains(partition))
    }

    pub fn done(&mut self, writer: usize, abandoned: bool) {
        self.writers[writer].in_flight.clear();
        if abandoned {
            tracing::warn!("a batch cannot be stored now: what was taken and not stored will be delivered again");
            self.abandoned = true;
        }
    }

    /// Gives writers that are free what is due, or everything (`at_once`).
    pub fn give(&mut self, buffer: &mut Buffer, at_once: bool, token: impl Fn(i32) -> Option<Uuid>) {
        let now = Instant::now();
        for free in 0..self.writers.len() {
            let busy = self.busy();
            let partitions = if at_once {
                buffer.free_partitions(&busy)
            } else {
                buffer.due(&busy, now)
            };
            let writer = &mut self.writers[free];
            if partitions.is_empty() || !writer.in_flight.is_empty() || self.abandoned {
                continue;
            }
            let messages = buffer.take(&partitions, now);
            let in_batch: BTreeSet<i32> = messages.iter().map(|message| message.partition).collect();
            let batch = Batch {
                messages,
                owners: in_batch.iter().filter_map(|p| Some((*p, token(*p)?))).collect(),
            };
            // There is room for one, and none is in flight; without a receiver the session ends.
            if writer.batches.try_send(batch).is_ok() {
                writer.in_flight = in_batch;
            }
        }
    }

    /// How long until messages that wait for others are due, if a writer is free.
    pub fn due_in(&self, buffer: &Buffer, now: Instant) -> Option<Duration> {
        let is_free = self.writers.iter().any(|writer| writer.in_flight.is_empty());
        buffer.due_in(&self.busy(), now).filter(|_| is_free)
    }

    /// The partitions that are being written.
    fn busy(&self) -> BTreeSet<i32> {
        self.writers.iter().flat_map(|writer| &writer.in_flight).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use userpipeline_api::Batch as Limits;

    use super::*;
    use crate::model::Message;

    fn push(buffer: &mut Buffer, partition: i32, offsets: std::ops::Range<i64>) {
        for offset in offsets {
            let message = Message {
                partition,
                offset,
                ..Message::default()
            };
            buffer.push(message, Instant::now());
        }
    }

    fn received(batches: &mut mpsc::Receiver<Batch>) -> Vec<(i32, i64)> {
        batches
            .try_recv()
            .map_or_else(|_| Vec::new(), |batch| batch.messages.iter().map(Message::origin).collect())
    }

    #[test]
    fn a_partition_is_in_one_batch_at_a_time_and_writers_share_the_partitions() {
        let limits = Limits {
            max_records: 2,
            ..Limits::default()
        };
        let mut buffer = Buffer::new(&limits);
        let (first, mut to_first) = mpsc::channel(1);
        let (second, mut to_second) = mpsc::channel(1);
        let mut hand_over = HandOver::new(vec![first, second]);
        let give = |hand_over: &mut HandOver, buffer: &mut Buffer| hand_over.give(buffer, false, |_| Some(Uuid::nil()));

        // Given two full partitions, each writer gets one of them
        push(&mut buffer, 0, 0..3);
        push(&mut buffer, 1, 0..2);
        give(&mut hand_over, &mut buffer);
        assert_eq!(received(&mut to_first), [(0, 0), (0, 1)]);
        assert_eq!(received(&mut to_second), [(1, 0), (1, 1)]);

        // When more of both arrives, it waits for the writer of its partition
        push(&mut buffer, 0, 3..4);
        push(&mut buffer, 1, 2..4);
        hand_over.done(1, false);
        give(&mut hand_over, &mut buffer);
        assert_eq!(received(&mut to_first), []);
        assert_eq!(received(&mut to_second), [(1, 2), (1, 3)]);
        assert!(hand_over.has_any(&[0]) && hand_over.has_any(&[1]));
        hand_over.done(0, false);
        give(&mut hand_over, &mut buffer);
        assert_eq!(received(&mut to_first), [(0, 2), (0, 3)]);
    }

    #[test]
    fn nothing_follows_an_abandoned_batch() {
        let mut buffer = Buffer::new(&Limits::default());
        let (only, mut batches) = mpsc::channel(1);
        let mut hand_over = HandOver::new(vec![only]);
        push(&mut buffer, 0, 0..1);
        hand_over.give(&mut buffer, false, |_| Some(Uuid::nil()));
        assert_eq!(received(&mut batches), [(0, 0)]);
        hand_over.done(0, true);
        push(&mut buffer, 0, 1..2);
        hand_over.give(&mut buffer, true, |_| Some(Uuid::nil()));
        assert_eq!(received(&mut batches), []);
    }
}

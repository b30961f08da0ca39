//! Gathers messages until a batch is due by number, by size, or by time. Pure; the clock is an input.

use std::time::{Duration, Instant};

use userpipeline_api::Batch as Limits;

use crate::model::Message;

/// Bytes of a batch, which may exceed them with its last message. Bounds the memory: a batch exists as messages, as records
/// and as values for each store, while the next one is gathered.
const MAX_BYTES: usize = 2 << 20;

#[derive(Debug)]
pub struct Buffer {
    messages: Vec<Message>,
    bytes: usize,
    since: Option<Instant>,
    max_records: usize,
    max_latency: Duration,
}

impl Buffer {
    pub fn new(limits: &Limits) -> Self {
        Self {
            messages: Vec::new(),
            bytes: 0,
            since: None,
            max_records: usize::try_from(limits.max_records).unwrap_or(1).max(1),
            max_latency: std::time::Duration::from(limits.max_latency),
        }
    }

    pub fn push(&mut self, message: Message, now: Instant) {
        self.bytes += message.size();
        self.messages.push(message);
        self.since.get_or_insert(now);
    }

    pub const fn is_full(&self) -> bool {
        self.messages.len() >= self.max_records || self.bytes >= MAX_BYTES
    }

    /// How long until the batch is due; none where it is empty.
    pub fn due_in(&self, now: Instant) -> Option<Duration> {
        let since = self.since?;
        Some(if self.is_full() {
            Duration::ZERO
        } else {
            (since + self.max_latency).saturating_duration_since(now)
        })
    }

    pub fn take(&mut self) -> Vec<Message> {
        self.bytes = 0;
        self.since = None;
        std::mem::take(&mut self.messages)
    }

    pub fn forget(&mut self, partition: i32) {
        self.messages.retain(|m| m.partition != partition);
        self.bytes = self.messages.iter().map(Message::size).sum();
        if self.messages.is_empty() {
            self.since = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer() -> Buffer {
        Buffer::new(&Limits {
            max_records: 3,
            max_latency: Duration::from_secs(1).into(),
        })
    }

    fn message(partition: i32, payload: usize) -> Message {
        Message {
            partition,
            payload: Some(vec![0; payload]),
            ..Message::default()
        }
    }

    #[test]
    fn a_batch_is_due_by_number_by_size_or_by_time() {
        let now = Instant::now();
        let mut by_number = buffer();
        assert_eq!(by_number.due_in(now), None);
        by_number.push(message(0, 1), now);
        by_number.push(message(0, 1), now + Duration::from_millis(500));
        assert_eq!(by_number.due_in(now + Duration::from_millis(600)), Some(Duration::from_millis(400)));
        assert_eq!(by_number.due_in(now + Duration::from_secs(2)), Some(Duration::ZERO));
        by_number.push(message(0, 1), now);
        assert!(by_number.is_full());
        assert_eq!(by_number.due_in(now), Some(Duration::ZERO));

        let mut by_size = buffer();
        by_size.push(message(0, MAX_BYTES), now);
        assert!(by_size.is_full());
    }

    #[test]
    fn what_was_taken_or_revoked_is_gone() {
        let now = Instant::now();
        let mut buffer = buffer();
        buffer.push(message(0, 1), now);
        buffer.push(message(1, 1), now);
        buffer.forget(0);
        assert_eq!(buffer.take(), vec![message(1, 1)]);
        assert_eq!((buffer.due_in(now), buffer.take()), (None, vec![]));
    }
}

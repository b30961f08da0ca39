//! What follows from a batch of messages: which records are written, and how far each partition advances. Pure.

use std::collections::{BTreeMap, BTreeSet, btree_map};

use uuid::Uuid;

use crate::{
    model::{Faults, Message, Write},
    progress::Advance,
    run::decode::Decoded,
};

/// Batches that a worker writes at a time, of different partitions: while one waits for PostgreSQL, another one is in Cassandra.
pub const WRITERS: usize = 2;

/// Messages that are written together, and the owner tokens of their partitions.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Those of a partition are in their order.
    pub messages: Vec<Message>,
    /// The owner token of each partition.
    pub owners: BTreeMap<i32, Uuid>,
}

impl Batch {
    /// The offset after the last message of each partition: compaction leaves gaps.
    pub fn next_offsets(&self) -> BTreeMap<i32, i64> {
        self.messages.iter().map(|m| (m.partition, m.offset + 1)).collect()
    }

    /// Removes the partitions that do not pass.
    pub fn retain(&mut self, keep: impl Fn(i32, Uuid) -> bool) {
        self.owners.retain(|partition, owner| keep(*partition, *owner));
        let owners = &self.owners;
        self.messages.retain(|m| owners.contains_key(&m.partition));
    }
}

/// The result of writing a batch.
#[derive(Debug, Default)]
pub struct BatchOutcome {
    /// The offset after the last message of each partition that is stored now.
    pub next_offsets: BTreeMap<i32, i64>,
    /// Partitions that another worker has taken over: nothing of them was stored.
    pub fenced: Vec<i32>,
    /// The worker is to stop and a store does not answer: nothing was stored.
    pub abandoned: bool,
}

/// The newest version of each key among the writes that are no dead letters, sorted by key, so that concurrent batches lock
/// rows in the same order. Of equal versions the earlier message wins, as between two batches; but of external producers, the later
/// one.
pub fn newest<'a>(writes: &'a [Write], faults: &Faults) -> Vec<&'a Write> {
    let mut newest: BTreeMap<&str, &Write> = BTreeMap::new();
    for write in writes.iter().filter(|w| !faults.contains_key(&w.origin)) {
        match newest.entry(&write.key) {
            btree_map::Entry::Vacant(vacant) => {
                vacant.insert(write);
            }
            btree_map::Entry::Occupied(mut occupied) => {
                if replaces(write, occupied.get()) {
                    occupied.insert(write);
                }
            }
        }
    }
    newest.into_values().collect()
}

fn replaces(write: &Write, other: &Write) -> bool {
    match (write.rank(), other.rank()) {
        (Some(rank), Some(other)) => rank > other,
        // Of an upsert and a delete of equal version the delete wins, as in the stores.
        _ => (write.version, write.deleted) > (other.version, other.deleted),
    }
}

/// The messages of a batch that are not written.
#[derive(Debug, Default)]
pub struct Unwritten {
    /// They become dead letters.
    pub faults: Faults,
    /// They are stored nowhere.
    pub dropped: BTreeSet<(i32, i64)>,
    /// They count as stored: nothing of them has to be.
    pub skipped: BTreeSet<(i32, i64)>,
}

impl Unwritten {
    pub fn contains(&self, origin: (i32, i64)) -> bool {
        self.faults.contains_key(&origin) || self.dropped.contains(&origin)
    }

    /// The write that a message becomes; none where it is not written, which is recorded.
    pub fn sort_out(&mut self, origin: (i32, i64), decoded: Decoded) -> Option<Write> {
        match decoded {
            Decoded::Upsert(record) => return Some(Write::upsert(record)),
            Decoded::Filtered(record) => return Some(Write::filtered(record)),
            Decoded::Delete(record) => return Some(Write::delete(record)),
            Decoded::Skipped => {
                self.skipped.insert(origin);
            }
            Decoded::Drop => {
                self.dropped.insert(origin);
            }
            Decoded::Fault(fault) => {
                self.faults.insert(origin, fault);
            }
        }
        None
    }

    /// Removes the partitions that do not pass.
    pub fn retain(&mut self, keep: impl Fn(i32) -> bool) {
        self.faults.retain(|(partition, _), _| keep(*partition));
        self.dropped.retain(|(partition, _)| keep(*partition));
        self.skipped.retain(|(partition, _)| keep(*partition));
    }
}

/// The messages whose records do not pass `spec.record.where`.
pub fn filtered(writes: &[Write]) -> BTreeSet<(i32, i64)> {
    writes.iter().filter(|write| write.filtered).map(|write| write.origin).collect()
}

/// How far a batch advances each partition. `previous` is the recorded offset: offsets before it were counted then. A dropped
/// message only advances. `filtered` messages are stored, too.
pub fn advances(
    messages: &[Message],
    unwritten: &Unwritten,
    filtered: &BTreeSet<(i32, i64)>,
    previous: &BTreeMap<i32, i64>,
) -> BTreeMap<i32, Advance> {
    let mut advances: BTreeMap<i32, Advance> = BTreeMap::new();
    for message in messages {
        let advance = advances.entry(message.partition).or_default();
        advance.next_offset = message.offset + 1;
        let is_new = previous.get(&message.partition).is_none_or(|next| message.offset >= *next);
        if is_new && unwritten.faults.contains_key(&message.origin()) {
            advance.dead_lettered += 1;
        } else if is_new && !unwritten.dropped.contains(&message.origin()) {
            advance.stored += 1;
            let is_filtered = |origin| filtered.contains(origin) || unwritten.skipped.contains(origin);
            advance.filtered += i64::from(is_filtered(&message.origin()));
        }
    }
    advances
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use userpipeline_record::Record;

    use super::*;
    use crate::model::{RecordFault, VersionedRecord};

    fn write(key: &str, version: i64, offset: i64) -> Write {
        Write::upsert(VersionedRecord {
            origin: (0, offset),
            key: key.into(),
            version,
            order: None,
            record: Record(Vec::new()),
        })
    }

    fn message(partition: i32, offset: i64) -> Message {
        Message {
            partition,
            offset,
            ..Message::default()
        }
    }

    fn dead(origins: &[(i32, i64)]) -> Faults {
        origins
            .iter()
            .map(|origin| (*origin, RecordFault::new("DecodeFailed", "garbage")))
            .collect()
    }

    #[test]
    fn the_next_offset_follows_the_last_delivered_one() {
        let batch = Batch {
            messages: vec![message(1, 5), message(2, 0), message(1, 9), message(2, 7)],
            owners: BTreeMap::new(),
        };
        assert_eq!(batch.next_offsets(), BTreeMap::from([(1, 10), (2, 8)]));
    }

    #[test]
    fn a_partition_that_is_no_longer_owned_is_removed() {
        let (mine, old) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let mut batch = Batch {
            messages: vec![message(1, 5), message(2, 0), message(1, 9)],
            owners: BTreeMap::from([(1, mine), (2, old)]),
        };
        batch.retain(|_, owner| owner == mine);
        assert_eq!(batch.messages, vec![message(1, 5), message(1, 9)]);
        assert_eq!(batch.next_offsets(), BTreeMap::from([(1, 10)]));
    }

    #[test]
    fn of_a_key_the_newest_version_is_written_in_the_order_of_keys() {
        let writes = [write("b", 2, 0), write("a", 9, 1), write("b", 3, 2), write("a", 4, 3)];
        let written: Vec<_> = newest(&writes, &Faults::new()).iter().map(|e| (e.key.clone(), e.version)).collect();
        assert_eq!(written, [("a".to_owned(), 9), ("b".to_owned(), 3)]);
    }

    #[test]
    fn of_equal_messages_of_an_external_producer_the_later_one_is_written_unless_a_delete_is_among_them() {
        let message = |offset, deleted| Write {
            order: Some(5),
            deleted,
            ..write("a", 5, offset)
        };
        let newest_of = |writes: &[Write]| newest(writes, &Faults::new())[0].origin.1;
        assert_eq!(newest_of(&[message(1, false), message(2, false)]), 2);
        assert_eq!(newest_of(&[message(1, true), message(2, false)]), 1);
        assert_eq!(newest_of(&[write("a", 5, 1), write("a", 5, 2)]), 1, "a run never publishes two");
    }

    #[test]
    fn where_the_newest_version_is_a_dead_letter_the_one_before_is_written() {
        let writes = [write("a", 1, 0), write("a", 2, 1)];
        assert_eq!(newest(&writes, &dead(&[(0, 1)]))[0].version, 1);
    }

    #[test]
    fn an_offset_counts_once() {
        let messages = [message(0, 4), message(0, 5), message(0, 8), message(0, 9), message(1, 0)];
        let unwritten = Unwritten {
            faults: dead(&[(0, 5), (0, 9)]),
            ..Unwritten::default()
        };
        let expected = |a: (i64, i64, i64)| Advance {
            next_offset: a.0,
            stored: a.1,
            dead_lettered: a.2,
            filtered: 0,
        };
        for (previous, first) in [
            (0, (10, 2, 2)),
            (5, (10, 1, 2)),
            (6, (10, 1, 1)),
            (10, (10, 0, 0)),
            (50, (10, 0, 0)),
        ] {
            let advances = advances(&messages, &unwritten, &BTreeSet::new(), &BTreeMap::from([(0, previous), (1, 0)]));
            assert_eq!(
                advances,
                BTreeMap::from([(0, expected(first)), (1, expected((1, 1, 0)))]),
                "from {previous}"
            );
        }
    }

    #[test]
    fn a_dropped_message_advances_its_partition_and_counts_nowhere() {
        let messages = [message(0, 4), message(0, 5), message(1, 7)];
        let mut unwritten = Unwritten::default();
        assert_eq!(unwritten.sort_out((0, 5), Decoded::Drop), None);
        assert_eq!(unwritten.sort_out((1, 7), Decoded::Drop), None);
        assert!(unwritten.faults.is_empty() && unwritten.contains((0, 5)));
        let advances = advances(&messages, &unwritten, &BTreeSet::new(), &BTreeMap::from([(0, 4), (1, 7)]));
        let expected = |next_offset, stored| Advance {
            next_offset,
            stored,
            ..Advance::default()
        };
        assert_eq!(advances, BTreeMap::from([(0, expected(6, 1)), (1, expected(8, 0))]));
    }

    #[test]
    fn a_message_that_does_not_pass_counts_once_and_as_stored_unless_a_store_refuses_it() {
        // Given three messages that do not pass, of which a store refuses one
        let messages = [message(0, 4), message(0, 5), message(0, 6), message(0, 7), message(0, 8)];
        let writes: Vec<Write> = (5..8)
            .map(|offset| Write {
                filtered: true,
                ..write("a", offset, offset)
            })
            .collect();
        let mut unwritten = Unwritten {
            faults: dead(&[(0, 6)]),
            ..Unwritten::default()
        };
        // And an event, of which nothing is kept
        assert_eq!(unwritten.sort_out((0, 8), Decoded::Skipped), None);
        for (previous, stored, filtered_now) in [(4, 4, 3), (6, 2, 2), (8, 1, 1), (9, 0, 0)] {
            // When the batch is stored, the first time or again
            let advances = advances(&messages, &unwritten, &filtered(&writes), &BTreeMap::from([(0, previous)]));

            // Then the others are counted unless they were before
            assert_eq!(
                (advances[&0].stored, advances[&0].filtered),
                (stored, filtered_now),
                "from {previous}"
            );
        }
    }

    #[test]
    fn of_equal_messages_one_that_does_not_pass_is_no_deletion() {
        let message = |offset, filtered| Write {
            order: Some(5),
            deleted: filtered,
            filtered,
            ..write("a", 5, offset)
        };
        let newest_of = |writes: &[Write]| newest(writes, &Faults::new())[0].origin.1;
        assert_eq!(newest_of(&[message(1, true), message(2, false)]), 2, "it returns");
        assert_eq!(newest_of(&[message(1, false), message(2, true)]), 2, "it leaves");
    }

    #[test]
    fn an_upsert_and_a_delete_become_writes_and_a_fault_becomes_a_dead_letter() {
        let record = || VersionedRecord {
            origin: (0, 1),
            key: "k".into(),
            version: 7,
            order: None,
            record: Record(Vec::new()),
        };
        let mut unwritten = Unwritten::default();
        let upsert = unwritten.sort_out((0, 1), Decoded::Upsert(record())).unwrap();
        let delete = unwritten.sort_out((0, 2), Decoded::Delete(record())).unwrap();
        let fault = RecordFault::new("KeyMissing", "the message has no key");
        assert_eq!(unwritten.sort_out((0, 3), Decoded::Fault(fault.clone())), None);
        assert_eq!((upsert.deleted, delete.deleted), (false, true));
        assert_eq!(unwritten.faults, Faults::from([((0, 3), fault)]));
        assert!(unwritten.dropped.is_empty());
    }

    /// What a sink does with a batch: the newer version wins.
    fn store(sink: &mut BTreeMap<String, i64>, batch: &[Write]) {
        for write in newest(batch, &Faults::new()) {
            let there = sink.entry(write.key.clone()).or_insert(write.version);
            *there = (*there).max(write.version);
        }
    }

    proptest! {
        #[test]
        fn any_order_and_repetition_leaves_the_newest_version(
            versions in prop::collection::vec((0..5_u8, 1..100_i64), 1..60),
            seed in any::<u64>(),
            size in 1..20_usize,
        ) {
            let all: Vec<Write> = versions.iter().enumerate().map(|(i, (key, v))| write(&key.to_string(), *v, i64::try_from(i).unwrap())).collect();
            let mut expected = BTreeMap::new();
            for e in &all {
                let best = expected.entry(e.key.clone()).or_insert(e.version);
                *best = (*best).max(e.version);
            }
            // Everything at least once, in another order, some of it several times.
            let mut delivered: Vec<Write> = all.iter().chain(all.iter().filter(|e| (seed >> (e.origin.1 % 60)) & 1 == 1)).cloned().collect();
            let len = delivered.len();
            for i in 0..len {
                delivered.swap(i, (usize::try_from(seed % 1_000_003).unwrap() * (i + 7)) % len);
            }
            let mut sink = BTreeMap::new();
            for batch in delivered.chunks(size) {
                store(&mut sink, batch);
            }
            prop_assert_eq!(sink, expected);
        }

        #[test]
        fn redelivery_in_any_pieces_counts_each_offset_once(count in 1..60_i64, restarts in prop::collection::vec((0..60_i64, 1..20_i64), 0..8)) {
            let (mut next, mut stored) = (0, 0);
            let mut deliver = |from: i64, to: i64| {
                let messages: Vec<Message> = (from..to).map(|o| message(0, o)).collect();
                if let Some(advance) = advances(&messages, &Unwritten::default(), &BTreeSet::new(), &BTreeMap::from([(0, next)])).get(&0) {
                    next = next.max(advance.next_offset);
                    stored += advance.stored;
                }
                next
            };
            let mut position = 0;
            for (back, length) in restarts {
                // A restart resumes at or before what is recorded.
                let from = (position - back).max(0);
                position = deliver(from, (from + length).min(count));
            }
            deliver(position, count);
            prop_assert_eq!(stored, count);
        }
    }
}

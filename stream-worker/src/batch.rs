//! What follows from a batch of messages: which records are written, and how far each partition has come. Pure.

use std::collections::{BTreeMap, btree_map};

use uuid::Uuid;

use crate::{
    decode::{Entry, Fault},
    message::Message,
};

/// Messages that are written together, and the token under which each of their partitions is owned.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// The messages, in the order of their delivery.
    pub messages: Vec<Message>,
    /// The partitions and the tokens of their owner.
    pub owners: BTreeMap<i32, Uuid>,
}

impl Batch {
    /// The offset behind the last message of each partition. The order of delivery decides, not arithmetic: compaction
    /// leaves gaps.
    pub fn next_offsets(&self) -> BTreeMap<i32, i64> {
        self.messages.iter().map(|m| (m.partition, m.offset + 1)).collect()
    }

    /// Leaves out the partitions that do not pass.
    pub fn retain(&mut self, keep: impl Fn(i32, Uuid) -> bool) {
        self.owners.retain(|partition, owner| keep(*partition, *owner));
        let owners = &self.owners;
        self.messages.retain(|m| owners.contains_key(&m.partition));
    }
}

/// The messages that are dead letters, by partition and offset.
pub type Faults = BTreeMap<(i32, i64), Fault>;

/// The newest version of each key among the entries that are no dead letters, sorted by key: whoever writes two batches
/// at once takes the rows' locks in the same order. Of equal versions the earlier message counts, as between two
/// batches.
pub fn newest<'a>(entries: &'a [Entry], dead: &Faults) -> Vec<&'a Entry> {
    let mut newest: BTreeMap<&str, &Entry> = BTreeMap::new();
    for entry in entries.iter().filter(|e| !dead.contains_key(&e.origin)) {
        match newest.entry(&entry.key) {
            btree_map::Entry::Vacant(vacant) => {
                vacant.insert(entry);
            }
            btree_map::Entry::Occupied(mut occupied) => {
                // Of a version and its deletion the deletion counts, as in the stores.
                if (entry.version, entry.deleted) > (occupied.get().version, occupied.get().deleted) {
                    occupied.insert(entry);
                }
            }
        }
    }
    newest.into_values().collect()
}

/// How far a partition comes by a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Advance {
    /// The offset behind its last message.
    pub next_offset: i64,
    /// Offsets that every sink has by this, and had not before.
    pub stored: i64,
    /// Offsets that are dead letters by this, and were not before.
    pub dead_lettered: i64,
}

/// How far each partition comes. `previous` is how far it was: what lies before was counted then.
pub fn advances(messages: &[Message], dead: &Faults, previous: &BTreeMap<i32, i64>) -> BTreeMap<i32, Advance> {
    let mut advances: BTreeMap<i32, Advance> = BTreeMap::new();
    for message in messages {
        let advance = advances.entry(message.partition).or_default();
        advance.next_offset = message.offset + 1;
        if previous.get(&message.partition).is_none_or(|next| message.offset >= *next) {
            if dead.contains_key(&message.origin()) {
                advance.dead_lettered += 1;
            } else {
                advance.stored += 1;
            }
        }
    }
    advances
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use userpipeline_record::Record;

    use super::*;

    fn entry(key: &str, version: i64, offset: i64) -> Entry {
        Entry {
            origin: (0, offset),
            key: key.into(),
            version,
            record: Record(Vec::new()),
            deleted: false,
        }
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
            .map(|origin| (*origin, Fault::new("DecodeFailed", "garbage")))
            .collect()
    }

    #[test]
    fn the_next_offset_is_behind_the_last_delivered_one() {
        let batch = Batch {
            messages: vec![message(1, 5), message(2, 0), message(1, 9), message(2, 7)],
            owners: BTreeMap::new(),
        };
        assert_eq!(batch.next_offsets(), BTreeMap::from([(1, 10), (2, 8)]));
    }

    #[test]
    fn a_partition_that_is_no_longer_owned_is_left_out() {
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
        let entries = [entry("b", 2, 0), entry("a", 9, 1), entry("b", 3, 2), entry("a", 4, 3)];
        let written: Vec<_> = newest(&entries, &Faults::new())
            .iter()
            .map(|e| (e.key.clone(), e.version))
            .collect();
        assert_eq!(written, [("a".to_owned(), 9), ("b".to_owned(), 3)]);
    }

    #[test]
    fn where_the_newest_version_is_a_dead_letter_the_one_before_is_written() {
        let entries = [entry("a", 1, 0), entry("a", 2, 1)];
        assert_eq!(newest(&entries, &dead(&[(0, 1)]))[0].version, 1);
    }

    #[test]
    fn an_offset_counts_once() {
        let messages = [message(0, 4), message(0, 5), message(0, 8), message(0, 9), message(1, 0)];
        let dead = dead(&[(0, 5), (0, 9)]);
        let expected = |a: (i64, i64, i64)| Advance {
            next_offset: a.0,
            stored: a.1,
            dead_lettered: a.2,
        };
        for (previous, first) in [
            (0, (10, 2, 2)),
            (5, (10, 1, 2)),
            (6, (10, 1, 1)),
            (10, (10, 0, 0)),
            (50, (10, 0, 0)),
        ] {
            let advances = advances(&messages, &dead, &BTreeMap::from([(0, previous), (1, 0)]));
            assert_eq!(
                advances,
                BTreeMap::from([(0, expected(first)), (1, expected((1, 1, 0)))]),
                "from {previous}"
            );
        }
    }

    /// What a sink does with a batch: the newer version wins.
    fn store(sink: &mut BTreeMap<String, i64>, batch: &[Entry]) {
        for entry in newest(batch, &Faults::new()) {
            let there = sink.entry(entry.key.clone()).or_insert(entry.version);
            *there = (*there).max(entry.version);
        }
    }

    proptest! {
        #[test]
        fn any_order_and_repetition_leaves_the_newest_version(
            versions in prop::collection::vec((0..5_u8, 1..100_i64), 1..60),
            seed in any::<u64>(),
            size in 1..20_usize,
        ) {
            let all: Vec<Entry> = versions.iter().enumerate().map(|(i, (key, v))| entry(&key.to_string(), *v, i64::try_from(i).unwrap())).collect();
            let mut expected = BTreeMap::new();
            for e in &all {
                let best = expected.entry(e.key.clone()).or_insert(e.version);
                *best = (*best).max(e.version);
            }
            // Everything at least once, in another order, some of it several times.
            let mut delivered: Vec<Entry> = all.iter().chain(all.iter().filter(|e| (seed >> (e.origin.1 % 60)) & 1 == 1)).cloned().collect();
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
                if let Some(advance) = advances(&messages, &Faults::new(), &BTreeMap::from([(0, next)])).get(&0) {
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

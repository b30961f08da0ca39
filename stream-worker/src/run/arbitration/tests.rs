//! A model of both stores: whatever is repeated, cut or lost, both have the message that the rule names.

use proptest::prelude::*;
use userpipeline_record::Record;

use super::*;
use crate::model::{RecordFault, VersionedRecord};

fn message(origin: (i32, i64), key: &str, order: i64, deleted: bool) -> Write {
    let record = VersionedRecord {
        origin,
        key: key.into(),
        version: order,
        order: Some(order),
        record: Record(Vec::new()),
    };
    if deleted { Write::delete(record) } else { Write::upsert(record) }
}

fn stored(version: i64, message: Option<(i64, (i32, i64))>, deleted: bool) -> BTreeMap<String, Stored> {
    let stored = Stored { version, message, deleted };
    BTreeMap::from([("k".to_owned(), stored)])
}

#[test]
fn a_message_wins_by_order_deletion_and_position() {
    let earlier = |deleted| stored(107, Some((100, (0, 5))), deleted);
    for (stored, write, expected) in [
        (BTreeMap::new(), message((0, 1), "k", 100, false), Some((100, false))),
        (earlier(false), message((0, 6), "k", 100, false), Some((108, false))),
        (earlier(false), message((0, 4), "k", 100, false), None),
        (earlier(false), message((0, 5), "k", 100, false), Some((107, true))),
        (earlier(false), message((0, 4), "k", 101, false), Some((108, false))),
        (earlier(false), message((0, 4), "k", 500, false), Some((500, false))),
        (earlier(false), message((0, 9), "k", 99, true), None),
        (earlier(false), message((0, 4), "k", 100, true), Some((108, false))),
        (earlier(true), message((0, 6), "k", 100, false), None),
        (earlier(true), message((0, 6), "k", 101, false), Some((108, false))),
        // Another partition: some order, but the same in each attempt.
        (earlier(false), message((1, 1), "k", 100, false), Some((108, false))),
        // A row of an earlier version.
        (stored(100, None, false), message((0, 1), "k", 100, false), Some((101, false))),
        (stored(100, None, false), message((0, 1), "k", 99, true), None),
        (stored(100, None, true), message((0, 1), "k", 100, false), None),
        (stored(100, None, true), message((0, 1), "k", 100, true), Some((101, false))),
    ] {
        let mut writes = [write];
        let won = arbitrate(&mut writes, &Faults::new(), &stored).winners;
        let won = won.first().map(|write| (write.version, write.is_stored));
        assert_eq!(won, expected, "{writes:?} {stored:?}");
    }
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Passes,
    Filtered,
    Deletion,
}

impl Kind {
    fn message(self, origin: (i32, i64), key: &str, order: i64) -> Write {
        let is_filtered = matches!(self, Self::Filtered);
        let deleted = is_filtered || matches!(self, Self::Deletion);
        Write {
            filtered: is_filtered,
            ..message(origin, key, order, deleted)
        }
    }
}

#[test]
fn a_record_that_does_not_pass_ranks_as_an_upsert() {
    let filtered = |origin, order| Kind::Filtered.message(origin, "k", order);
    // Its tombstone is no deletion.
    let earlier = stored(107, Some((100, (0, 5))), false);
    let deleted = stored(107, Some((100, (0, 5))), true);
    for (stored, write, expected) in [
        // It leaves the filter, and returns, with equal values of orderBy.
        (&earlier, filtered((0, 6), 100), Some((108, false))),
        (&earlier, message((0, 6), "k", 100, false), Some((108, false))),
        // An older one changes nothing, and the same one has its version.
        (&earlier, filtered((0, 4), 100), None),
        (&earlier, filtered((0, 9), 99), None),
        (&earlier, filtered((0, 5), 100), Some((107, true))),
        // Of equal ones, a deletion wins.
        (&deleted, filtered((0, 6), 100), None),
        (&deleted, filtered((0, 6), 101), Some((108, false))),
        (&earlier, message((0, 4), "k", 100, true), Some((108, false))),
    ] {
        let mut writes = [write];
        let won = arbitrate(&mut writes, &Faults::new(), stored).winners;
        let won = won.first().map(|write| (write.version, write.is_stored));
        assert_eq!(won, expected, "{writes:?} {stored:?}");
    }
}

#[test]
fn a_dead_letter_does_not_win_and_a_batch_is_taken_message_by_message() {
    let mut writes = [
        message((0, 1), "b", 7, false),
        message((0, 2), "k", 100, false),
        message((0, 3), "k", 100, false),
        message((0, 4), "k", 100, false),
    ];
    let won = arbitrate(&mut writes, &Faults::new(), &BTreeMap::new()).winners;
    let won: Vec<_> = won
        .iter()
        .map(|write| (write.key.as_str(), write.origin.1, write.version))
        .collect();
    assert_eq!(won, [("b", 1, 7), ("k", 4, 102)]);
    let faults = Faults::from([((0, 4), RecordFault::new("CassandraRefused", "no"))]);
    let won = arbitrate(&mut writes, &faults, &BTreeMap::new()).winners;
    assert_eq!((won[1].origin.1, won[1].version), (3, 101));
}

#[test]
fn messages_without_an_order_are_reported() {
    let stored = stored(100, Some((100, (0, 5))), false);
    for (write, expected) in [
        (message((1, 9), "k", 100, false), true),
        (message((0, 9), "k", 100, false), false),
        (message((1, 9), "k", 101, false), false),
        (message((1, 9), "k", 100, true), false),
        (message((1, 9), "other", 100, false), false),
    ] {
        let mut writes = [write.clone()];
        assert_eq!(arbitrate(&mut writes, &Faults::new(), &stored).is_unordered, expected, "{write:?}");
    }
}

/// PostgreSQL has what a batch committed; Cassandra what any attempt wrote, cell by cell.
#[derive(Debug, Default)]
struct Stores {
    postgres: BTreeMap<String, Stored>,
    /// The write time of a cell and its message; the greater content wins at equal times, and a deletion.
    cassandra: BTreeMap<String, [(i64, bool, u64); 2]>,
}

/// The content of a column: two messages differ in both, in opposite directions.
fn cells(write: &Write) -> [u64; 2] {
    let offset = write.origin.1.unsigned_abs() * 4 + u64::from(write.origin.0.unsigned_abs());
    [offset, u64::MAX - offset]
}

impl Stores {
    fn write(&mut self, batch: &[Write], commits: bool) {
        let mut writes = batch.to_vec();
        for write in arbitrate(&mut writes, &Faults::new(), &self.postgres).winners {
            let columns = self.cassandra.entry(write.key.clone()).or_default();
            for (column, content) in columns.iter_mut().zip(cells(write)) {
                let content = if write.deleted { 0 } else { content };
                *column = (*column).max((write.version, write.deleted, content));
            }
            if commits && !write.is_stored {
                let stored = Stored {
                    version: write.version,
                    message: write.order.map(|order| (order, write.origin)),
                    deleted: write.is_deletion(),
                };
                self.postgres.insert(write.key.clone(), stored);
            }
        }
    }
}

proptest! {
    #[test]
    fn both_stores_end_with_the_message_that_the_rule_names(
        sent in prop::collection::vec((0..3_u8, 1..4_i64, prop_oneof![6 => Just(Kind::Passes), 2 => Just(Kind::Filtered), 2 => Just(Kind::Deletion)]), 1..40),
        // How many messages an attempt has, and whether it commits; else the next one begins at the same offset.
        attempts in prop::collection::vec((1..8_usize, any::<bool>()), 0..40),
        replay in any::<bool>(),
    ) {
        let sent: Vec<Write> = (0..).zip(sent).map(|(offset, (key, order, kind))| kind.message((0, offset), &key.to_string(), order)).collect();
        let mut stores = Stores::default();
        let mut next = 0;
        for (size, commits) in attempts {
            let end = (next + size).min(sent.len());
            stores.write(&sent[next..end], commits);
            next = if commits { end } else { next };
        }
        stores.write(&sent[next..], true);
        if replay {
            // The offsets are reset to the beginning.
            for batch in sent.chunks(5) {
                stores.write(batch, true);
            }
        }
        let mut expected: BTreeMap<&str, &Write> = BTreeMap::new();
        for write in &sent {
            let best = expected.entry(&write.key).or_insert(write);
            if write.rank() > best.rank() {
                *best = write;
            }
        }
        for (key, write) in expected {
            let row = stores.postgres[key];
            prop_assert_eq!(row.message, Some((write.order.unwrap(), write.origin)));
            let content = cells(write).map(|content| if write.deleted { 0 } else { content });
            prop_assert_eq!(stores.cassandra[key].map(|cell| (cell.0, cell.1)), [(row.version, write.deleted); 2]);
            prop_assert_eq!(stores.cassandra[key].map(|cell| cell.2), content);
            prop_assert!(row.version >= write.order_version);
        }
    }
}

//! Of several messages with equal versions, PostgreSQL ends with the one that the rule names, however batches are cut, repeated or
//! lost.

use std::collections::BTreeMap;

use proptest::{
    prelude::Rng,
    test_runner::{RngAlgorithm, TestRng},
};
use stream_worker::model::{VersionedRecord, Write};
use userpipeline_record::{Record, Value};
use uuid::Uuid;

use crate::store::{Rows, Store, address};

const KEYS: u64 = 5;
/// Versions begin with 1.
const NEWEST: u64 = 3;
const MESSAGES: i64 = 60;
const TRIALS: usize = 12;

pub struct Random(TestRng);

impl Random {
    pub fn new() -> Self {
        let seed = [Uuid::new_v4(), Uuid::new_v4()].map(Uuid::into_bytes).concat();
        println!("seed {seed:?}");
        Self(TestRng::from_seed(RngAlgorithm::ChaCha, &seed))
    }

    fn below(&mut self, bound: u64) -> i64 {
        i64::try_from(self.0.next_u64() % bound).unwrap()
    }

    /// A new version of a record, which deletes it, does not pass the filter, or is stored.
    pub fn message(&mut self, offset: i64) -> Write {
        let revision = 1 + self.below(NEWEST);
        self.message_of(revision, offset)
    }

    /// The same, with the newest version, which wins against all earlier messages.
    pub fn newest(&mut self, offset: i64) -> Write {
        self.message_of(NEWEST.cast_signed(), offset)
    }

    fn message_of(&mut self, revision: i64, offset: i64) -> Write {
        let key = self.below(KEYS);
        // Cassandra would take the greater value of each column, of equal write times.
        let columns = [key, revision, offset, -offset].map(Value::Long);
        let kind = self.below(10);
        let record = VersionedRecord {
            origin: (0, offset),
            key: key.to_string(),
            version: revision,
            order: Some(revision),
            record: Record(columns.to_vec()),
        };
        match kind {
            0 => Write::delete(record),
            1 | 2 => Write::filtered(record),
            _ => Write::upsert(record),
        }
    }
}

/// The rows after all messages.
pub fn expected(messages: &[Write]) -> Rows {
    let mut newest: BTreeMap<&str, &Write> = BTreeMap::new();
    for message in messages {
        let best = newest.entry(&message.key).or_insert(message);
        if message.rank() > best.rank() {
            *best = message;
        }
    }
    let rows = newest.into_iter().filter(|(_, message)| !message.deleted);
    rows.map(|(key, message)| (key.parse().unwrap(), (message.origin.1, -message.origin.1)))
        .collect()
}

#[tokio::test]
#[ignore = "needs the local cluster"]
async fn postgresql_ends_with_the_messages_that_the_rule_names() {
    let mut random = Random::new();
    for trial in 0..TRIALS {
        let store = Store::create().await;
        let mut writer = store.writer(address()).await;
        let messages: Vec<Write> = (0..MESSAGES).map(|offset| random.message(offset)).collect();
        let mut next = 0;
        while next < messages.len() {
            let size = usize::try_from(1 + random.below(8)).unwrap();
            let end = (next + size).min(messages.len());
            // One in three attempts is lost, and the next one has other batches.
            let commits = random.below(3) > 0;
            writer.attempt(&messages[next..end], commits).await.unwrap();
            next = if commits { end } else { next };
        }
        let rows = expected(&messages);
        for replayed in [false, true] {
            assert_eq!(store.rows().await, rows, "trial {trial}, replayed {replayed}: {messages:#?}");
            for batch in messages.chunks(7) {
                writer.attempt(batch, true).await.unwrap();
            }
        }
        store.drop().await;
    }
}

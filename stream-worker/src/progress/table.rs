//! The progress rows: who owns a partition, and its next offset.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::{Client, Error, Statement, Transaction};
use uuid::Uuid;

/// How far a batch advances a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Advance {
    /// The offset after its last message.
    pub next_offset: i64,
    /// Offsets that every sink has with this batch and did not have before.
    pub stored: i64,
    /// Offsets that are dead letters with this batch and were not before.
    pub dead_lettered: i64,
    /// Of the stored ones, those whose record does not pass `spec.record.where`.
    pub filtered: i64,
}

/// The progress rows of one group and one topic.
#[derive(Clone, Debug)]
pub struct ProgressTable {
    pub group: String,
    pub topic: String,
    /// A topic that was deleted and re-created has another one.
    pub topic_id: String,
}

const LOCK: &str = "SELECT p.partition, p.next_offset FROM userpipeline.progress p \
     JOIN unnest($3::integer[], $4::uuid[]) AS u (partition, owner) ON u.partition = p.partition AND u.owner = p.owner \
     WHERE p.group_id = $1 AND p.topic_id = $2 ORDER BY p.partition FOR UPDATE OF p";
const ADVANCE: &str = "UPDATE userpipeline.progress AS p SET next_offset = greatest(p.next_offset, u.next_offset), stored = p.stored + u.stored, \
     dead_lettered = p.dead_lettered + u.dead_lettered, filtered = p.filtered + u.filtered, updated_at = now() \
     FROM unnest($3::integer[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[]) AS u (partition, next_offset, stored, dead_lettered, filtered) \
     WHERE p.group_id = $1 AND p.topic_id = $2 AND p.partition = u.partition";

/// The statements of each batch, prepared on a connection.
pub struct ProgressStatements {
    lock: Statement,
    advance: Statement,
}

impl ProgressStatements {
    pub async fn prepare(client: &Client) -> Result<Self, Error> {
        let (lock, advance) = futures::try_join!(client.prepare(LOCK), client.prepare(ADVANCE))?;
        Ok(Self { lock, advance })
    }
}

#[derive(Debug, Default)]
pub struct TakenOver {
    /// The offset of each partition's row, and whether it was inserted.
    pub rows: BTreeMap<i32, (i64, bool)>,
}

impl ProgressTable {
    /// The partitions that were read under another id of the topic: it was deleted and re-created.
    pub async fn recreated(&self, client: &Client) -> Result<BTreeSet<i32>, Error> {
        let statement = "SELECT DISTINCT partition FROM userpipeline.progress WHERE group_id = $1 AND topic = $2 AND topic_id <> $3";
        Ok(client
            .query(statement, &[&self.group, &self.topic, &self.topic_id])
            .await?
            .iter()
            .map(|row| row.get("partition"))
            .collect())
    }

    /// Makes `owner` the owner of partitions. This fences previous owners; a transaction of theirs in progress is waited
    /// for, so that the offset is the last one they could record.
    pub async fn take_over(&self, client: &Client, first: &BTreeMap<i32, i64>, owner: Uuid) -> Result<TakenOver, Error> {
        let statement = "INSERT INTO userpipeline.progress AS p (group_id, topic_id, topic, partition, next_offset, owner) \
             SELECT $1, $2, $3, u.partition, u.next_offset, $6 FROM unnest($4::integer[], $5::bigint[]) AS u (partition, next_offset) ORDER BY u.partition \
             ON CONFLICT (group_id, topic_id, partition) DO UPDATE SET owner = excluded.owner, updated_at = now() \
             RETURNING p.partition, p.next_offset, p.xmax = 0 AS inserted";
        let (partitions, offsets): (Vec<i32>, Vec<i64>) = first.iter().map(|(p, o)| (*p, *o)).unzip();
        let rows = client
            .query(
                statement,
                &[&self.group, &self.topic_id, &self.topic, &partitions, &offsets, &owner],
            )
            .await?;
        Ok(TakenOver {
            rows: rows
                .iter()
                .map(|row| (row.get("partition"), (row.get("next_offset"), row.get("inserted"))))
                .collect(),
        })
    }

    /// Locks the rows that are still owned under the given tokens, and returns their offsets. A missing partition has
    /// another owner.
    pub async fn lock(
        &self,
        transaction: &Transaction<'_>,
        statements: &ProgressStatements,
        owners: &BTreeMap<i32, Uuid>,
    ) -> Result<BTreeMap<i32, i64>, Error> {
        let (partitions, tokens): (Vec<i32>, Vec<Uuid>) = owners.iter().map(|(p, o)| (*p, *o)).unzip();
        let rows = transaction
            .query(&statements.lock, &[&self.group, &self.topic_id, &partitions, &tokens])
            .await?;
        Ok(rows.iter().map(|row| (row.get("partition"), row.get("next_offset"))).collect())
    }

    /// Advances rows that [`ProgressTable::lock`] has locked. An offset never decreases, not even after a replay.
    pub async fn advance(
        &self,
        transaction: &Transaction<'_>,
        statements: &ProgressStatements,
        advances: &BTreeMap<i32, Advance>,
    ) -> Result<(), Error> {
        let partitions: Vec<i32> = advances.keys().copied().collect();
        let next: Vec<i64> = advances.values().map(|a| a.next_offset).collect();
        let stored: Vec<i64> = advances.values().map(|a| a.stored).collect();
        let dead: Vec<i64> = advances.values().map(|a| a.dead_lettered).collect();
        let filtered: Vec<i64> = advances.values().map(|a| a.filtered).collect();
        transaction
            .execute(
                &statements.advance,
                &[&self.group, &self.topic_id, &partitions, &next, &stored, &dead, &filtered],
            )
            .await
            .map(drop)
    }
}

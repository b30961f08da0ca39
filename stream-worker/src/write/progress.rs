//! The progress rows: who owns a partition, and how far it has come.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::{Client, Error, Transaction};
use userpipeline_api::report::{RejectTotal, StoredTotals};
use userpipeline_record::bookkeeping;
use uuid::Uuid;

use crate::batch::Advance;

/// The rows of one group and one topic.
#[derive(Clone, Debug)]
pub struct Rows {
    /// The consumer group.
    pub group: String,
    /// The topic's name.
    pub topic: String,
    /// The topic's id.
    pub topic_id: String,
}

/// What claiming partitions found.
#[derive(Debug, Default)]
pub struct Claimed {
    /// The offset of each partition's row, and whether the row was made by this claim.
    pub rows: BTreeMap<i32, (i64, bool)>,
}

impl Rows {
    /// The partitions that were read before under another id of the topic: it was deleted and made anew.
    pub async fn made_anew(&self, client: &Client) -> Result<BTreeSet<i32>, Error> {
        let statement = "SELECT DISTINCT partition FROM userpipeline.progress WHERE group_id = $1 AND topic = $2 AND topic_id <> $3";
        Ok(client
            .query(statement, &[&self.group, &self.topic, &self.topic_id])
            .await?
            .iter()
            .map(|row| row.get(0))
            .collect())
    }

    /// Makes `owner` the owner of partitions. Whoever owned them before is fenced from here on; a transaction of theirs
    /// that is under way is waited for, so that the offset is the last one they could record.
    pub async fn claim(&self, client: &Client, first: &BTreeMap<i32, i64>, owner: Uuid) -> Result<Claimed, Error> {
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
        Ok(Claimed {
            rows: rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect(),
        })
    }

    /// Locks the rows that are still owned under the given tokens, and gives their offsets. What is not among them has
    /// another owner by now.
    pub async fn lock(&self, transaction: &Transaction<'_>, owners: &BTreeMap<i32, Uuid>) -> Result<BTreeMap<i32, i64>, Error> {
        let statement = "SELECT p.partition, p.next_offset FROM userpipeline.progress p \
             JOIN unnest($3::integer[], $4::uuid[]) AS u (partition, owner) ON u.partition = p.partition AND u.owner = p.owner \
             WHERE p.group_id = $1 AND p.topic_id = $2 ORDER BY p.partition FOR UPDATE OF p";
        let (partitions, tokens): (Vec<i32>, Vec<Uuid>) = owners.iter().map(|(p, o)| (*p, *o)).unzip();
        let rows = transaction
            .query(statement, &[&self.group, &self.topic_id, &partitions, &tokens])
            .await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// Advances rows that [`Rows::lock`] has locked. An offset never goes back: after a replay it stays where it was.
    pub async fn advance(&self, transaction: &Transaction<'_>, advances: &BTreeMap<i32, Advance>) -> Result<(), Error> {
        let statement = "UPDATE userpipeline.progress AS p SET next_offset = greatest(p.next_offset, u.next_offset), stored = p.stored + u.stored, \
             dead_lettered = p.dead_lettered + u.dead_lettered, updated_at = now() \
             FROM unnest($3::integer[], $4::bigint[], $5::bigint[], $6::bigint[]) AS u (partition, next_offset, stored, dead_lettered) \
             WHERE p.group_id = $1 AND p.topic_id = $2 AND p.partition = u.partition";
        let partitions: Vec<i32> = advances.keys().copied().collect();
        let next: Vec<i64> = advances.values().map(|a| a.next_offset).collect();
        let stored: Vec<i64> = advances.values().map(|a| a.stored).collect();
        let dead: Vec<i64> = advances.values().map(|a| a.dead_lettered).collect();
        transaction
            .execute(statement, &[&self.group, &self.topic_id, &partitions, &next, &stored, &dead])
            .await
            .map(drop)
    }
}

/// The totals of a pipeline: of its group over all partitions, those of a topic's earlier lives included, and of its runs.
/// They never go backwards.
pub async fn totals(client: &Client, group: &str, pipeline: &str) -> Result<StoredTotals, Error> {
    let statement =
        "SELECT coalesce(sum(stored), 0)::bigint, coalesce(sum(dead_lettered), 0)::bigint FROM userpipeline.progress WHERE group_id = $1";
    let stored = client.query_one(statement, &[&group]).await?;
    let fetched = client.query_one(bookkeeping::TOTALS, &[&pipeline]).await?;
    let rejects = client.query(bookkeeping::REJECTS, &[&pipeline]).await?;
    Ok(StoredTotals {
        stored: stored.get(0),
        dead_lettered: stored.get(1),
        items: fetched.get(0),
        bytes: fetched.get(1),
        published: fetched.get(2),
        rejects: rejects
            .iter()
            .map(|row| RejectTotal {
                field: row.get(0),
                class: row.get(1),
                items: row.get(2),
            })
            .collect(),
    })
}

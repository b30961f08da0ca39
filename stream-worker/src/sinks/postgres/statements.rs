//! The prepared statements of the sink table.

use std::collections::BTreeMap;

use futures::future::OptionFuture;
use tokio_postgres::{Client, Error, Row, Statement, Transaction, types::ToSql};
use userpipeline_record::RecordSchema;
use userpipeline_stores::{
    StoreError,
    postgres::{self, PgParam},
};

use crate::model::{Stored, Write};

pub struct Statements {
    schema: RecordSchema,
    upsert: Statement,
    delete: Option<Delete>,
    /// With an external producer: what the table has.
    stored: Option<Statement>,
}

/// For pipelines that delete records.
struct Delete {
    statement: Statement,
    /// For batches with deletes: one at a time.
    exclusive_lock: String,
    shared_lock: String,
}

/// What a statement has besides the fields at some positions and the versions.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Parameters {
    Read,
    Upsert,
    Delete,
}

impl Statements {
    /// `is_arbiter`: the table decides versions, and records the message of each row.
    pub async fn prepare(client: &Client, table: &str, schema: &RecordSchema, is_arbiter: bool) -> Result<Self, StoreError> {
        let prepare = async |statement: String| {
            let prepared = client.prepare(&statement).await;
            prepared.map_err(|e| postgres::explain(&format!("writing to table `{table}`"), &e))
        };
        let (upsert, delete) = if is_arbiter {
            (schema.sink_upsert_ordered(table), schema.sink_delete_ordered(table))
        } else {
            (schema.sink_upsert(table), schema.sink_delete(table))
        };
        // Sent at once: each would wait for the answer to the one before.
        let delete = OptionFuture::from(schema.has_deletes().then(|| prepare(delete)));
        let stored = OptionFuture::from(is_arbiter.then(|| prepare(schema.sink_stored(table))));
        let (upsert, delete, stored) = futures::join!(prepare(upsert), delete, stored);
        let delete = delete.transpose()?.map(|statement| Delete {
            statement,
            exclusive_lock: RecordSchema::sink_lock(table, true),
            shared_lock: RecordSchema::sink_lock(table, false),
        });
        Ok(Self {
            upsert: upsert?,
            schema: schema.clone(),
            delete,
            stored: stored.transpose()?,
        })
    }

    /// What the table has of the records, by key, if it decides versions. It excludes concurrent deletes, as a write does.
    pub async fn stored(&self, transaction: &Transaction<'_>, writes: &[&Write]) -> Result<BTreeMap<String, Stored>, Error> {
        let Some(statement) = &self.stored else {
            return Ok(BTreeMap::new());
        };
        self.lock(transaction, writes.iter().any(|write| write.deleted)).await?;
        let keys = self.schema.key_positions().collect();
        let rows = self.query(transaction, statement, keys, writes).await?;
        let mut stored: BTreeMap<String, Stored> = BTreeMap::new();
        for row in &rows {
            let position: i64 = row.get(0);
            let Some(write) = usize::try_from(position - 1).ok().and_then(|i| writes.get(i)) else {
                continue;
            };
            let found = stored_of(row);
            let known = stored.entry(write.key.clone()).or_insert(found);
            // A record that came back has a tombstone as well.
            if (found.version, found.deleted) > (known.version, known.deleted) {
                *known = found;
            }
        }
        Ok(stored)
    }

    /// Returns the number of upserted rows.
    pub async fn write(&self, transaction: &Transaction<'_>, writes: &[&Write]) -> Result<u64, Error> {
        let (deletes, upserts): (Vec<&Write>, Vec<&Write>) = writes.iter().partition(|write| write.deleted);
        self.lock(transaction, !deletes.is_empty()).await?;
        if let Some(delete) = self.delete.as_ref().filter(|_| !deletes.is_empty()) {
            let keys = self.schema.key_positions().collect();
            self.execute(transaction, &delete.statement, Parameters::Delete, keys, &deletes)
                .await?;
        }
        if upserts.is_empty() {
            return Ok(0);
        }
        let all = (0..self.schema.fields.len()).collect();
        self.execute(transaction, &self.upsert, Parameters::Upsert, all, &upserts).await
    }

    async fn lock(&self, transaction: &Transaction<'_>, has_deletes: bool) -> Result<(), Error> {
        let Some(delete) = &self.delete else { return Ok(()) };
        let lock = if has_deletes { &delete.exclusive_lock } else { &delete.shared_lock };
        transaction.batch_execute(lock).await
    }

    async fn query(
        &self,
        transaction: &Transaction<'_>,
        statement: &Statement,
        positions: Vec<usize>,
        writes: &[&Write],
    ) -> Result<Vec<Row>, Error> {
        let columns = columns(&positions, writes);
        let arrays = Arrays::of(writes);
        transaction
            .query(statement, &self.values(&columns, &arrays, Parameters::Read))
            .await
    }

    async fn execute(
        &self,
        transaction: &Transaction<'_>,
        statement: &Statement,
        parameters: Parameters,
        positions: Vec<usize>,
        writes: &[&Write],
    ) -> Result<u64, Error> {
        let columns = columns(&positions, writes);
        let arrays = Arrays::of(writes);
        transaction.execute(statement, &self.values(&columns, &arrays, parameters)).await
    }

    /// The fields, the versions, the keys where records can be deleted, and where the table decides versions what it records.
    fn values<'a>(&self, columns: &'a [Vec<PgParam<'a>>], arrays: &'a Arrays<'a>, parameters: Parameters) -> Vec<&'a (dyn ToSql + Sync)> {
        let mut values: Vec<&(dyn ToSql + Sync)> = columns.iter().map(|c| c as &(dyn ToSql + Sync)).collect();
        values.push(&arrays.versions);
        if self.delete.is_some() || parameters != Parameters::Upsert {
            values.push(&arrays.keys);
        }
        if self.stored.is_some() && parameters != Parameters::Read {
            values.extend([&arrays.orders as &(dyn ToSql + Sync), &arrays.partitions, &arrays.offsets]);
            if parameters == Parameters::Delete {
                values.push(&arrays.ahead);
                if self.schema.filter.is_some() {
                    values.push(&arrays.filtered);
                }
            }
        }
        values
    }
}

/// An array for each of the fields at `positions`.
fn columns<'a>(positions: &[usize], writes: &[&'a Write]) -> Vec<Vec<PgParam<'a>>> {
    let column = |position: &usize| writes.iter().map(|w| PgParam(&w.record.0[*position])).collect();
    positions.iter().map(column).collect()
}

/// What is bound besides fields.
struct Arrays<'a> {
    versions: Vec<i64>,
    keys: Vec<&'a str>,
    orders: Vec<Option<i64>>,
    partitions: Vec<i32>,
    offsets: Vec<i64>,
    /// Whether the version is ahead of `orderBy`.
    ahead: Vec<bool>,
    filtered: Vec<bool>,
}

impl<'a> Arrays<'a> {
    fn of(writes: &[&'a Write]) -> Self {
        Self {
            versions: writes.iter().map(|w| w.version).collect(),
            keys: writes.iter().map(|w| w.key.as_str()).collect(),
            orders: writes.iter().map(|w| w.order).collect(),
            partitions: writes.iter().map(|w| w.origin.0).collect(),
            offsets: writes.iter().map(|w| w.origin.1).collect(),
            ahead: writes.iter().map(|w| w.version > w.order_version).collect(),
            filtered: writes.iter().map(|w| w.filtered).collect(),
        }
    }
}

/// Of a row of [`RecordSchema::sink_stored`].
fn stored_of(row: &Row) -> Stored {
    let (order, partition, offset): (Option<i64>, Option<i32>, Option<i64>) = (row.get(2), row.get(3), row.get(4));
    Stored {
        version: row.get(1),
        message: order.zip(partition.zip(offset)),
        deleted: row.get(5),
    }
}

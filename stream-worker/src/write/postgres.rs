//! The sink table in PostgreSQL, and the transaction that both it and the progress rows are written in.

use std::{sync::Arc, time::Duration};

use tokio_postgres::{Client, Error, Statement, Transaction, types::ToSql};
use userpipeline_api::Postgres;
use userpipeline_record::RecordSchema;
use userpipeline_stores::{
    Credentials, Secrets, StoreError,
    cell::Cell,
    error::{POSTGRES_FAILED, POSTGRES_UNREACHABLE},
    postgres,
};

use super::{
    bisect::Bisect,
    progress::{Claimed, Rows},
};
use crate::decode::Entry;

/// A worker that stopped in mid-transaction (paused, cut off) must not hold its rows' locks for ever: whoever takes over
/// waits for them.
const IDLE_IN_TRANSACTION: &str = "SET idle_in_transaction_session_timeout = '60s'";

/// A connection, ready to write.
pub struct PostgresSink {
    client: Client,
    table: Option<Arc<Table>>,
    /// What the connection was opened with; other credentials need another connection.
    pub credentials: Credentials,
}

/// The sink table, and what is said to it.
pub struct Table {
    schema: RecordSchema,
    upsert: Statement,
    delete: Option<Delete>,
}

/// What is said where records can be deleted.
struct Delete {
    statement: Statement,
    /// Locks out all others, and those that delete.
    alone: String,
    shared: String,
}

impl Table {
    async fn prepare(client: &Client, table: &str, schema: &RecordSchema) -> Result<Self, StoreError> {
        let prepare = async |statement: String| {
            let prepared = client.prepare(&statement).await;
            prepared.map_err(|e| postgres::explain(&format!("writing to table `{table}`"), &e))
        };
        let delete = if schema.has_deletes() {
            Some(Delete {
                statement: prepare(schema.sink_delete(table)).await?,
                alone: RecordSchema::sink_lock(table, true),
                shared: RecordSchema::sink_lock(table, false),
            })
        } else {
            None
        };
        Ok(Self {
            upsert: prepare(schema.sink_upsert(table)).await?,
            schema: schema.clone(),
            delete,
        })
    }

    /// Writes entries, each key once.
    pub async fn write(&self, transaction: &Transaction<'_>, entries: &[&Entry]) -> Result<(), Error> {
        let (gone, there): (Vec<&Entry>, Vec<&Entry>) = entries.iter().partition(|entry| entry.deleted);
        if let Some(delete) = &self.delete {
            transaction
                .batch_execute(if gone.is_empty() { &delete.shared } else { &delete.alone })
                .await?;
            if !gone.is_empty() {
                self.execute(transaction, &delete.statement, self.schema.key_positions().collect(), &gone)
                    .await?;
            }
        }
        if !there.is_empty() {
            let all = (0..self.schema.fields.len()).collect();
            self.execute(transaction, &self.upsert, all, &there).await?;
        }
        Ok(())
    }

    /// An array of each of the fields at `positions`, the versions, and where records can be deleted the keys.
    async fn execute(
        &self,
        transaction: &Transaction<'_>,
        statement: &Statement,
        positions: Vec<usize>,
        entries: &[&Entry],
    ) -> Result<(), Error> {
        let column = |position: usize| -> Vec<Cell<'_>> { entries.iter().map(|e| Cell(&e.record.0[position])).collect() };
        let columns: Vec<Vec<Cell<'_>>> = positions.into_iter().map(column).collect();
        let versions: Vec<i64> = entries.iter().map(|e| e.version).collect();
        let keys: Vec<&str> = entries.iter().map(|e| e.key.as_str()).collect();
        let mut values: Vec<&(dyn ToSql + Sync)> = columns.iter().map(|c| c as &(dyn ToSql + Sync)).collect();
        values.push(&versions);
        if self.delete.is_some() {
            values.push(&keys);
        }
        transaction.execute(statement, &values).await.map(drop)
    }
}

/// The user name and password, as they are at this moment.
pub fn credentials(postgres: &Postgres, secrets: &Secrets) -> Result<Credentials, StoreError> {
    secrets.credentials(&postgres.credentials_secret_ref.name, "spec.postgres.credentialsSecretRef")
}

/// What an error means while a batch is written.
pub fn explain(error: &Error) -> StoreError {
    postgres::explain("writing to PostgreSQL", error)
}

impl PostgresSink {
    /// Connects, and prepares what will be written: a table that is missing is noticed here.
    pub async fn open(
        postgres: &Postgres,
        table: Option<&str>,
        schema: &RecordSchema,
        secrets: &Secrets,
        application: &str,
    ) -> Result<Self, StoreError> {
        let credentials = credentials(postgres, secrets)?;
        let client = postgres::connect(postgres, secrets, application).await?;
        client
            .batch_execute(IDLE_IN_TRANSACTION)
            .await
            .map_err(|e| postgres::explain("PostgreSQL", &e))?;
        client
            .query("SELECT 1 FROM userpipeline.progress LIMIT 0", &[])
            .await
            .map_err(|e| postgres::explain("reading userpipeline.progress", &e))?;
        let table = match table {
            Some(table) => Some(Arc::new(Table::prepare(&client, table, schema).await?)),
            None => None,
        };
        Ok(Self {
            client,
            table,
            credentials,
        })
    }

    /// Begins a batch's transaction.
    pub async fn begin(&mut self) -> Result<Transaction<'_>, Error> {
        self.client.transaction().await
    }

    /// The sink table, if that is a sink.
    pub fn table(&self) -> Option<Arc<Table>> {
        self.table.clone()
    }

    /// Finds out which entries the table refuses, in a transaction of its own that is rolled back.
    pub async fn find_refused(&mut self, entries: &[&Entry]) -> Result<Vec<(usize, String)>, StoreError> {
        let Some(table) = self.table() else { return Ok(Vec::new()) };
        let mut transaction = answered(self.client.transaction()).await?.map_err(|e| explain(&e))?;
        let mut bisect = Bisect::new(entries.len());
        while let Some(range) = bisect.next() {
            let part = answered(transaction.transaction()).await?.map_err(|e| explain(&e))?;
            match answered(table.write(&part, &entries[range])).await? {
                // Kept, so that rows which only refuse each other are found too.
                Ok(()) => {
                    answered(part.commit()).await?.map_err(|e| explain(&e))?;
                    bisect.accepted();
                }
                Err(e) if postgres::is_record_fault(&e) => {
                    answered(part.rollback()).await?.map_err(|e| explain(&e))?;
                    bisect.refused(
                        e.as_db_error()
                            .map_or_else(|| e.to_string(), |db| format!("{} (SQLSTATE {})", db.message(), db.code().code())),
                    );
                }
                Err(e) => return Err(explain(&e)),
            }
        }
        let refused = bisect.into_refused();
        if refused.is_empty() {
            return Err(StoreError::transient(
                POSTGRES_FAILED,
                "PostgreSQL refused a batch and then each of its parts not",
            ));
        }
        Ok(refused)
    }
}

/// PostgreSQL ends a statement after two minutes. Who hears nothing by then talks to nobody, whatever the connection looks like.
const ANSWERED: Duration = Duration::from_secs(150);

/// What PostgreSQL answers, if it does.
pub async fn answered<T>(question: impl Future<Output = T>) -> Result<T, StoreError> {
    tokio::time::timeout(ANSWERED, question).await.map_err(|_| {
        let message = format!("PostgreSQL has not answered for {} s", ANSWERED.as_secs());
        StoreError::transient(POSTGRES_UNREACHABLE, message)
    })
}

/// Takes partitions over, on a connection of its own: a batch that cannot be written must not keep others waiting.
pub async fn claim(
    postgres: &Postgres,
    secrets: &Secrets,
    application: &str,
    rows: &Rows,
    first: impl FnOnce(&std::collections::BTreeSet<i32>) -> std::collections::BTreeMap<i32, i64>,
    owner: uuid::Uuid,
) -> Result<(Claimed, std::collections::BTreeSet<i32>), StoreError> {
    let client = postgres::connect(postgres, secrets, application).await?;
    let explain = |e| postgres::explain("taking partitions over in userpipeline.progress", &e);
    let made_anew = rows.made_anew(&client).await.map_err(explain)?;
    let claimed = rows.claim(&client, &first(&made_anew), owner).await.map_err(explain)?;
    Ok((claimed, made_anew))
}

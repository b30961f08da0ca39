//! Writes a batch to the sink table, in the batch's transaction.

use futures::future::LocalBoxFuture;
use tokio_postgres::{Client, Error, Statement, Transaction, types::ToSql};
use userpipeline_record::RecordSchema;
use userpipeline_stores::{
    StoreError,
    error::POSTGRES_FAILED,
    postgres::{self, PgParam, answered, is_record_fault},
};

use super::bisect::Bisect;
use crate::{
    model::Write,
    sinks::sink::{SinkWriter, WriteOutcome},
};

pub struct PostgresWriter {
    table: String,
    schema: RecordSchema,
    /// On the connection of the batch's transaction.
    statements: Option<Statements>,
}

impl PostgresWriter {
    pub const fn new(table: String, schema: RecordSchema) -> Self {
        Self {
            table,
            schema,
            statements: None,
        }
    }

    fn statements(&self) -> &Statements {
        let Some(statements) = &self.statements else {
            unreachable!("they are prepared with the connection")
        };
        statements
    }

    /// Tries parts of the batch in a transaction that is rolled back.
    async fn search_refused(&self, client: &mut Client, writes: &[&Write]) -> Result<Vec<(usize, String)>, StoreError> {
        let statements = self.statements();
        let mut transaction = answered(client.transaction()).await?.map_err(|e| failed(&e))?;
        let mut bisect = Bisect::new(writes.len());
        while let Some(range) = bisect.next() {
            let part = answered(transaction.transaction()).await?.map_err(|e| failed(&e))?;
            match answered(statements.write(&part, &writes[range])).await? {
                // Kept, so that rows that only conflict with each other are found too.
                Ok(()) => {
                    answered(part.commit()).await?.map_err(|e| failed(&e))?;
                    bisect.accepted();
                }
                Err(e) if is_record_fault(&e) => {
                    answered(part.rollback()).await?.map_err(|e| failed(&e))?;
                    bisect.refused(
                        e.as_db_error()
                            .map_or_else(|| e.to_string(), |db| format!("{} (SQLSTATE {})", db.message(), db.code().code())),
                    );
                }
                Err(e) => return Err(failed(&e)),
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

impl SinkWriter for PostgresWriter {
    fn refusal_class(&self) -> &'static str {
        "PostgresRefused"
    }

    fn prepare<'a>(&'a mut self, client: &'a Client) -> LocalBoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async {
            self.statements = Some(Statements::prepare(client, &self.table, &self.schema).await?);
            Ok(())
        })
    }

    fn write<'a>(
        &'a self,
        transaction: &'a Transaction<'a>,
        writes: &'a [&'a Write],
    ) -> LocalBoxFuture<'a, Result<WriteOutcome, StoreError>> {
        Box::pin(async {
            match answered(self.statements().write(transaction, writes)).await? {
                Ok(()) => Ok(WriteOutcome::InTransaction),
                Err(e) if is_record_fault(&e) => Ok(WriteOutcome::Refused),
                Err(e) => Err(failed(&e)),
            }
        })
    }

    fn find_refused<'a>(
        &'a self,
        client: &'a mut Client,
        writes: &'a [&'a Write],
    ) -> LocalBoxFuture<'a, Result<Vec<(usize, String)>, StoreError>> {
        Box::pin(self.search_refused(client, writes))
    }

    fn close(&mut self, _: &StoreError) {
        self.statements = None;
    }
}

fn failed(error: &Error) -> StoreError {
    postgres::explain("writing to PostgreSQL", error)
}

/// The prepared statements.
struct Statements {
    schema: RecordSchema,
    upsert: Statement,
    delete: Option<Delete>,
}

/// For pipelines that delete records.
struct Delete {
    statement: Statement,
    /// For batches with deletes: one at a time.
    exclusive_lock: String,
    shared_lock: String,
}

impl Statements {
    async fn prepare(client: &Client, table: &str, schema: &RecordSchema) -> Result<Self, StoreError> {
        let prepare = async |statement: String| {
            let prepared = client.prepare(&statement).await;
            prepared.map_err(|e| postgres::explain(&format!("writing to table `{table}`"), &e))
        };
        let delete = if schema.has_deletes() {
            Some(Delete {
                statement: prepare(schema.sink_delete(table)).await?,
                exclusive_lock: RecordSchema::sink_lock(table, true),
                shared_lock: RecordSchema::sink_lock(table, false),
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

    async fn write(&self, transaction: &Transaction<'_>, writes: &[&Write]) -> Result<(), Error> {
        let (deletes, upserts): (Vec<&Write>, Vec<&Write>) = writes.iter().partition(|write| write.deleted);
        if let Some(delete) = &self.delete {
            transaction
                .batch_execute(if deletes.is_empty() {
                    &delete.shared_lock
                } else {
                    &delete.exclusive_lock
                })
                .await?;
            if !deletes.is_empty() {
                self.execute(transaction, &delete.statement, self.schema.key_positions().collect(), &deletes)
                    .await?;
            }
        }
        if !upserts.is_empty() {
            let all = (0..self.schema.fields.len()).collect();
            self.execute(transaction, &self.upsert, all, &upserts).await?;
        }
        Ok(())
    }

    /// Binds an array for each of the fields at `positions`, the versions, and where records can be deleted the keys.
    async fn execute(
        &self,
        transaction: &Transaction<'_>,
        statement: &Statement,
        positions: Vec<usize>,
        writes: &[&Write],
    ) -> Result<(), Error> {
        let column = |position: usize| -> Vec<PgParam<'_>> { writes.iter().map(|w| PgParam(&w.record.0[position])).collect() };
        let columns: Vec<Vec<PgParam<'_>>> = positions.into_iter().map(column).collect();
        let versions: Vec<i64> = writes.iter().map(|w| w.version).collect();
        let keys: Vec<&str> = writes.iter().map(|w| w.key.as_str()).collect();
        let mut values: Vec<&(dyn ToSql + Sync)> = columns.iter().map(|c| c as &(dyn ToSql + Sync)).collect();
        values.push(&versions);
        if self.delete.is_some() {
            values.push(&keys);
        }
        transaction.execute(statement, &values).await.map(drop)
    }
}

//! Writes a batch to the sink table, in the batch's transaction.

use std::collections::BTreeMap;

use futures::future::LocalBoxFuture;
use tokio_postgres::{Client, Error, Transaction};
use userpipeline_record::RecordSchema;
use userpipeline_stores::{
    StoreError,
    error::POSTGRES_FAILED,
    postgres::{self, answered, is_record_fault},
};

use super::{bisect::Bisect, statements::Statements};
use crate::{
    model::{Stored, Write},
    sinks::sink::{Arbiter, SinkWriter, WriteOutcome},
};

pub struct PostgresWriter {
    table: String,
    schema: RecordSchema,
    /// With an external producer, this sink decides versions.
    is_arbiter: bool,
    /// On the connection of the batch's transaction.
    statements: Option<Statements>,
}

impl PostgresWriter {
    pub const fn new(table: String, schema: RecordSchema, is_arbiter: bool) -> Self {
        Self {
            table,
            schema,
            is_arbiter,
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
                Ok(_) => {
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
            self.statements = Some(Statements::prepare(client, &self.table, &self.schema, self.is_arbiter).await?);
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
                Ok(upserted) if self.is_arbiter && upserted < new_upserts(writes) => Err(raced()),
                Ok(_) => Ok(WriteOutcome::InTransaction),
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

    fn arbiter(&self) -> Option<&dyn Arbiter> {
        self.is_arbiter.then_some(self)
    }
}

impl Arbiter for PostgresWriter {
    fn stored<'a>(
        &'a self,
        transaction: &'a Transaction<'a>,
        writes: &'a [&'a Write],
    ) -> LocalBoxFuture<'a, Result<BTreeMap<String, Stored>, StoreError>> {
        Box::pin(async {
            answered(self.statements().stored(transaction, writes))
                .await?
                .map_err(|e| failed(&e))
        })
    }
}

/// The upserts that the table does not have yet.
fn new_upserts(writes: &[&Write]) -> u64 {
    let new = writes.iter().filter(|write| !write.deleted && !write.is_stored);
    u64::try_from(new.count()).unwrap_or(u64::MAX)
}

/// A worker of another partition has written a record since its version was decided.
fn raced() -> StoreError {
    let message = "another worker wrote a record of this batch at the same time: messages of one record are on several partitions";
    StoreError::transient(POSTGRES_FAILED, message)
}

fn failed(error: &Error) -> StoreError {
    postgres::explain("writing to PostgreSQL", error)
}

//! The table in PostgreSQL, in the bookkeeping's database.

mod bisect;
pub mod delete;
mod schema;
mod statements;
pub mod table;
mod write;

use futures::future::LocalBoxFuture;
use tokio_postgres::Transaction;
use userpipeline_api::document::WorkerPipeline;
use userpipeline_record::bookkeeping;
use userpipeline_stores::StoreError;

use self::{table::claim, write::PostgresWriter};
use super::sink::{Expiry, SchemaTask, Sink, SinkWriter};
use crate::{claims::Holder, context::WorkerContext};

pub struct Postgres;

impl Sink for Postgres {
    fn name(&self) -> &'static str {
        "postgres"
    }

    fn uses_transaction(&self) -> bool {
        true
    }

    fn writer(&self, context: &WorkerContext) -> Option<Box<dyn SinkWriter>> {
        let table = context.pipeline.postgres_table.as_ref()?;
        let is_arbiter = context.pipeline.written.is_some();
        Some(Box::new(PostgresWriter::new(table.clone(), context.schema.clone(), is_arbiter)))
    }

    fn claim_in_transaction<'a>(
        &'a self,
        task: &'a SchemaTask<'a>,
        transaction: &'a Transaction<'a>,
        holder: &'a Holder,
    ) -> LocalBoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            match &task.pipeline.postgres_table {
                Some(table) => claim(transaction, holder, table, task.pipeline.tables.postgres).await,
                None => Ok(()),
            }
        })
    }

    fn apply_schema_in_transaction<'a>(
        &'a self,
        task: &'a SchemaTask<'a>,
        transaction: &'a Transaction<'a>,
    ) -> LocalBoxFuture<'a, Result<(), StoreError>> {
        Box::pin(schema::apply(task, transaction))
    }

    /// Tombstones: the versions of deleted records.
    fn retention(&self, pipeline: &WorkerPipeline) -> Option<Expiry> {
        let limit: std::time::Duration = pipeline.retention.tombstones?.into();
        Some(Expiry {
            rows: "tombstones",
            seconds: limit.as_secs_f64(),
            statement: bookkeeping::EXPIRE_TOMBSTONES.to_owned(),
            key: Some(pipeline.postgres_table.clone()?),
            returns_count: false,
        })
    }
}

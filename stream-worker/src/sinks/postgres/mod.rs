//! The table in PostgreSQL, in the bookkeeping's database.

pub mod aggregates;
mod bisect;
pub mod delete;
mod schema;
mod statements;
pub mod table;
mod write;

use futures::future::LocalBoxFuture;
use tokio_postgres::Transaction;
use userpipeline_api::document::WorkerPipeline;
use userpipeline_record::{aggregate::Aggregate, bookkeeping};
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

    /// The totals are locked from its write to the end of the transaction.
    fn is_last(&self, pipeline: &WorkerPipeline) -> bool {
        !pipeline.aggregates.is_empty()
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

    /// Tombstones: the versions of deleted records. Windows: the totals of windows that have expired.
    fn retention(&self, pipeline: &WorkerPipeline, aggregates: &[Aggregate]) -> Vec<Expiry> {
        let tombstones = pipeline.retention.tombstones.zip(pipeline.postgres_table.clone());
        let tombstones = tombstones.map(|(limit, table)| Expiry {
            rows: "tombstones",
            announcements: Vec::new(),
            seconds: std::time::Duration::from(limit).as_secs_f64(),
            statement: bookkeeping::EXPIRE_TOMBSTONES.to_owned(),
            key: Some(table),
            returns_count: false,
        });
        let windows = aggregates.iter().filter_map(|aggregate| {
            let (seconds, statement) = aggregate.expire()?;
            Some(Expiry {
                rows: "windows",
                announcements: Vec::new(),
                seconds,
                statement,
                key: None,
                returns_count: false,
            })
        });
        tombstones.into_iter().chain(windows).collect()
    }
}

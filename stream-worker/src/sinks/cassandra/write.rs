//! Writes a batch to the table.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, TryStreamExt, future::LocalBoxFuture, stream};
use tokio_postgres::Transaction;
use userpipeline_api::document::CassandraTarget;
use userpipeline_record::RecordSchema;
use userpipeline_stores::{
    StoreError,
    cassandra::{self, CASSANDRA_FAILED, CASSANDRA_UNREACHABLE, Connection},
};

use super::{
    health::CassandraHealth,
    session::{PreparedSession, SharedSession},
    values,
};
use crate::{
    model::Write,
    sinks::sink::{HealthCheck, SinkWriter, WriteOutcome},
};

/// Concurrent requests.
const IN_FLIGHT: usize = 256;
/// Bounds a batch, because the transaction in PostgreSQL waits for it.
const BATCH_TIMEOUT: Duration = Duration::from_secs(45);

pub struct CassandraWriter {
    target: CassandraTarget,
    connection: Connection,
    schema: RecordSchema,
    prepared: Option<PreparedSession>,
    shared: SharedSession,
}

impl CassandraWriter {
    pub fn new(target: CassandraTarget, connection: Connection, schema: RecordSchema) -> Self {
        Self {
            target,
            connection,
            schema,
            prepared: None,
            shared: SharedSession::default(),
        }
    }

    async fn reopen(&mut self) -> Result<(), StoreError> {
        let rotated = |prepared: &PreparedSession| prepared.is_rotated(&self.connection);
        if self.prepared.as_ref().is_none_or(rotated) {
            let prepared = PreparedSession::open(&self.target, &self.connection, &self.schema).await?;
            self.shared.set(Some(Arc::clone(&prepared.session)));
            self.prepared = Some(prepared);
        }
        Ok(())
    }

    /// Writes all, and returns those that Cassandra refuses because of their record.
    async fn write_all(&self, writes: &[&Write]) -> Result<Vec<(usize, String)>, StoreError> {
        let Some(prepared) = &self.prepared else {
            unreachable!("it is opened before each attempt")
        };
        let requests = writes
            .iter()
            .enumerate()
            .map(|(i, write)| self.write_one(prepared, i, write).boxed());
        let all = stream::iter(requests)
            .buffer_unordered(IN_FLIGHT)
            .try_filter_map(|refused| async move { Ok(refused) })
            .try_collect();
        tokio::time::timeout(BATCH_TIMEOUT, all).await.map_err(|_| {
            StoreError::transient(
                CASSANDRA_UNREACHABLE,
                format!("Cassandra did not acknowledge a batch within {} seconds", BATCH_TIMEOUT.as_secs()),
            )
        })?
    }

    /// The values are built when the request starts: only those in flight are in memory.
    async fn write_one(&self, prepared: &PreparedSession, position: usize, write: &Write) -> Result<Option<(usize, String)>, StoreError> {
        let (statement, values) = if write.deleted {
            (&prepared.delete, values::delete(&self.schema, write))
        } else {
            (&prepared.insert, values::upsert(write))
        };
        match prepared.session.execute_unpaged(statement, values).await {
            Ok(_) => Ok(None),
            Err(e) => match cassandra::record_fault(&e) {
                Some(why) => Ok(Some((position, why))),
                None => Err(cassandra::explain("writing to Cassandra", &e)),
            },
        }
    }
}

impl SinkWriter for CassandraWriter {
    fn refusal_class(&self) -> &'static str {
        "CassandraRefused"
    }

    fn open(&mut self) -> LocalBoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.reopen())
    }

    fn write<'a>(&'a self, _: &'a Transaction<'a>, writes: &'a [&'a Write]) -> LocalBoxFuture<'a, Result<WriteOutcome, StoreError>> {
        Box::pin(async {
            let refused = self.write_all(writes).await?;
            Ok(WriteOutcome::Stored { refused })
        })
    }

    /// The driver reconnects to nodes by itself; but not with other credentials, nor to a re-created table or a cluster that
    /// moved.
    fn close(&mut self, error: &StoreError) {
        if error.reason != CASSANDRA_FAILED {
            self.prepared = None;
            self.shared.set(None);
        }
    }

    fn health(&self) -> Option<Box<dyn HealthCheck>> {
        Some(Box::new(CassandraHealth {
            session: self.shared.clone(),
        }))
    }
}

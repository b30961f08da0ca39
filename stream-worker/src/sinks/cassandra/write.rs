//! Writes a batch to the table.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, TryStreamExt, future::LocalBoxFuture, stream};
use scylla::errors::ExecutionError;
use tokio_postgres::Transaction;
use userpipeline_api::document::CassandraTarget;
use userpipeline_record::RecordSchema;
use userpipeline_stores::{
    StoreError,
    cassandra::{self, CASSANDRA_FAILED, CASSANDRA_UNREACHABLE, Connection},
};

use super::{
    health::CassandraHealth,
    requests::{IN_FLIGHT, Request, requests},
    session::{PreparedSession, SharedSession},
    values::{Delete, Upsert},
};
use crate::{
    model::Write,
    sinks::sink::{HealthCheck, SinkWriter, WriteOutcome},
};

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

    /// Writes rows outside of a batch, and returns those that are refused, by position and why.
    pub async fn write_rows(&mut self, writes: &[&Write]) -> Result<Vec<(usize, String)>, StoreError> {
        self.reopen().await?;
        let written = self.write_all(writes).await;
        written.inspect_err(|error| self.close(error))
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
        let replica = |write: &Write| prepared.replica(write, &self.target.cluster.local_datacenter);
        let all = stream::iter(requests(writes, replica))
            .map(|request| self.send(prepared, request, writes))
            .buffer_unordered(IN_FLIGHT)
            .try_concat();
        tokio::time::timeout(BATCH_TIMEOUT, all).await.map_err(|_| {
            StoreError::transient(
                CASSANDRA_UNREACHABLE,
                format!("Cassandra did not acknowledge a batch within {} seconds", BATCH_TIMEOUT.as_secs()),
            )
        })?
    }

    /// The writes that are refused, by position and why.
    async fn send(&self, prepared: &PreparedSession, request: Request, writes: &[&Write]) -> Result<Vec<(usize, String)>, StoreError> {
        let positions = request.positions;
        if positions.len() > 1 {
            let rows: Vec<Upsert<'_>> = positions.iter().map(|position| Upsert(writes[*position])).collect();
            match prepared.session.batch(prepared.inserts(rows.len()), rows).await {
                Ok(_) => return Ok(Vec::new()),
                // Which of them is refused, or whether only their batch is, each of them shows.
                Err(e) if cassandra::may_be_refused(&e) => {}
                Err(e) => return Err(cassandra::explain("writing to Cassandra", &e)),
            }
        }
        let mut refused = Vec::new();
        for position in positions {
            if let Err(e) = self.send_one(prepared, writes[position]).await {
                let why = cassandra::record_fault(&e).ok_or_else(|| cassandra::explain("writing to Cassandra", &e))?;
                refused.push((position, why));
            }
        }
        Ok(refused)
    }

    async fn send_one(&self, prepared: &PreparedSession, write: &Write) -> Result<(), ExecutionError> {
        let session = &prepared.session;
        let sent = if write.deleted {
            let schema = &self.schema;
            session.execute_unpaged(&prepared.delete, Delete { schema, write }).await
        } else {
            session.execute_unpaged(&prepared.insert, Upsert(write)).await
        };
        sent.map(drop)
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

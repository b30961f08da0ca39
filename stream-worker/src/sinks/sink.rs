//! What a store must do to be a sink.

use std::collections::BTreeMap;

use futures::future::LocalBoxFuture;
use tokio_postgres::{Client, Transaction};
use userpipeline_api::{
    StoreIdentity,
    document::{SchemaPipeline, WorkerPipeline},
};
use userpipeline_record::{RecordSchema, aggregate::Aggregate};
use userpipeline_stores::{Secrets, StoreError};

use crate::{
    claims::{Claims, Holder, Resource},
    context::WorkerContext,
    mode::Mode,
    model::{Stored, Write},
    store_identities::StoreIdentities,
};

/// A store that records are written to. One value per store, in [`super::ALL`].
pub trait Sink: Sync {
    /// Its name in metrics and logs; no other store has it, except that `postgres` is also the bookkeeping's.
    fn name(&self) -> &'static str;

    /// Whether it writes in the batch's transaction, with statements that are prepared on the connection of the bookkeeping.
    fn uses_transaction(&self) -> bool {
        false
    }

    /// Whether it writes after the others rather than with them, because others wait from its write to the end of the transaction.
    fn is_last(&self, _pipeline: &WorkerPipeline) -> bool {
        false
    }

    /// The writer of a worker; none where the pipeline does not have this sink.
    fn writer(&self, context: &WorkerContext) -> Option<Box<dyn SinkWriter>>;

    /// Claims, before anything is created, a table in the bookkeeping's database.
    fn claim_in_transaction<'a>(
        &'a self,
        _task: &'a SchemaTask<'a>,
        _transaction: &'a Transaction<'a>,
        _holder: &'a Holder,
    ) -> LocalBoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }

    /// Creates or alters, and verifies, a table in the bookkeeping's database.
    fn apply_schema_in_transaction<'a>(
        &'a self,
        _task: &'a SchemaTask<'a>,
        _transaction: &'a Transaction<'a>,
    ) -> LocalBoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }

    /// Asks a store of its own which one it is, and changes nothing. None where the pipeline does not have this sink.
    fn identify<'a>(&'a self, _task: &'a SchemaTask<'a>) -> Option<LocalBoxFuture<'a, Result<StoreIdentity, StoreError>>> {
        None
    }

    /// Claims, creates or alters, and verifies a table in a store of its own: the step's name and its work. None where the
    /// sink's table is in the bookkeeping's database.
    fn apply_schema<'a>(
        &'a self,
        _task: &'a SchemaTask<'a>,
        _claims: &'a Claims,
    ) -> Option<(&'static str, LocalBoxFuture<'a, Result<(), StoreError>>)> {
        None
    }

    /// Deletes a claimed table in a store of its own; false where the spec does not lead to its place. None where the
    /// resource is not one of this sink's.
    fn delete<'a>(
        &'a self,
        _resource: &'a Resource,
        _pipeline: &'a SchemaPipeline,
        _secrets: &'a Secrets,
    ) -> Option<LocalBoxFuture<'a, Result<bool, StoreError>>> {
        None
    }

    /// Rows that the sink keeps for a limited time in the bookkeeping's database.
    fn retention(&self, _pipeline: &WorkerPipeline, _aggregates: &[Aggregate]) -> Vec<Expiry> {
        Vec::new()
    }
}

/// What a sink is given to apply its schema.
#[derive(Clone, Copy)]
pub struct SchemaTask<'a> {
    pub pipeline: &'a SchemaPipeline,
    pub schema: &'a RecordSchema,
    pub secrets: &'a Secrets,
    pub mode: &'a Mode,
    /// What is known, and found out, about which stores these are.
    pub identities: &'a StoreIdentities,
}

/// Writes batches to a sink.
pub trait SinkWriter: Send + Sync {
    /// The class of a dead letter that this sink refused.
    fn refusal_class(&self) -> &'static str;

    /// Prepares statements on a new connection to the bookkeeping's database.
    fn prepare<'a>(&'a mut self, _client: &'a Client) -> LocalBoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }

    /// Connects where there is no connection, or the credentials have changed since.
    fn open(&mut self) -> LocalBoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }

    /// Writes each key once. `transaction` is the batch's, in the bookkeeping's database.
    fn write<'a>(
        &'a self,
        transaction: &'a Transaction<'a>,
        writes: &'a [&'a Write],
    ) -> LocalBoxFuture<'a, Result<WriteOutcome, StoreError>>;

    /// After [`WriteOutcome::Refused`] and the rollback: the writes that are refused, by position and why.
    fn find_refused<'a>(
        &'a self,
        _client: &'a mut Client,
        _writes: &'a [&'a Write],
    ) -> LocalBoxFuture<'a, Result<Vec<(usize, String)>, StoreError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    /// Closes the connection after an error, where the next attempt needs a new one.
    fn close(&mut self, error: &StoreError);

    /// With an external producer: whether this sink decides which of several messages of a record is newer. The others are written
    /// after it, with its versions.
    fn arbiter(&self) -> Option<&dyn Arbiter> {
        None
    }

    /// A check that runs beside the writer; none where the bookkeeping's own check covers this sink.
    fn health(&self) -> Option<Box<dyn HealthCheck>> {
        None
    }
}

/// A sink that decides versions.
pub trait Arbiter: Send + Sync {
    /// What the sink has of the records of `writes`, by key. Until the transaction ends, no other one changes what it has of deleted
    /// records.
    fn stored<'a>(
        &'a self,
        transaction: &'a Transaction<'a>,
        writes: &'a [&'a Write],
    ) -> LocalBoxFuture<'a, Result<BTreeMap<String, Stored>, StoreError>>;
}

/// A sink of a pipeline, and its writer.
pub struct ActiveSink {
    pub sink: &'static dyn Sink,
    pub writer: Box<dyn SinkWriter>,
    /// See [`Sink::is_last`].
    pub is_last: bool,
}

impl ActiveSink {
    pub fn name(&self) -> &'static str {
        self.sink.name()
    }
}

/// The result of a sink's write.
#[derive(Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    /// Stored, except for the writes that are refused because of their record, by position and why.
    Stored { refused: Vec<(usize, String)> },
    /// Stored once the batch's transaction commits.
    InTransaction,
    /// The transaction failed because of some of the records.
    Refused,
}

/// Whether a sink answers.
pub trait HealthCheck: Send + Sync {
    fn check(&self) -> LocalBoxFuture<'_, Result<(), StoreError>>;
}

/// Rows that are deleted when they are older than a limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Expiry {
    /// The rows' name in metrics and logs.
    pub rows: &'static str,
    /// Record that such rows expire. Where one of these statements has an effect, none is deleted in the same sweep, so that statements
    /// of others that do not see it end first.
    pub announcements: Vec<String>,
    /// Their limit, in seconds.
    pub seconds: f64,
    /// Takes the key, if there is one, the seconds, and the number of rows to delete at most.
    pub statement: String,
    pub key: Option<String>,
    /// Whether the statement returns the number of deleted rows as its result.
    pub returns_count: bool,
}

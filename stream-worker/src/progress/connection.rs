//! The connection on which batches are recorded.

use std::collections::BTreeMap;

use tokio_postgres::{Client, Error, Transaction};
use userpipeline_stores::{
    StoreError,
    postgres::{self, Connection, answered},
    wire::Fingerprint,
};
use uuid::Uuid;

use super::table::{Advance, ProgressStatements, ProgressTable};

/// A worker that stopped in mid-transaction (paused, partitioned from the network) must not hold its rows' locks for ever:
/// the next owner waits for them.
const IDLE_IN_TRANSACTION: &str = "SET idle_in_transaction_session_timeout = '60s'";

pub struct ProgressConnection {
    client: Client,
    statements: ProgressStatements,
    /// Other credentials or certificates need another connection.
    opened_with: Fingerprint,
}

impl ProgressConnection {
    /// Connects, and fails here where the progress table is missing.
    pub async fn open(connection: &Connection, application: &str) -> Result<Self, StoreError> {
        let (client, opened_with) = connection.open(application).await?;
        // Sent at once: each would wait for the answer to the one before.
        let (limited, readable, prepared) = futures::join!(
            client.batch_execute(IDLE_IN_TRANSACTION),
            client.query("SELECT 1 FROM userpipeline.progress LIMIT 0", &[]),
            ProgressStatements::prepare(&client),
        );
        let reading = |e| postgres::explain("reading userpipeline.progress", &e);
        limited.map_err(|e| postgres::explain("PostgreSQL", &e))?;
        readable.map_err(reading)?;
        let statements = prepared.map_err(reading)?;
        Ok(Self {
            client,
            statements,
            opened_with,
        })
    }

    /// Whether credentials or certificates have changed since it was opened.
    pub fn is_rotated(&self, connection: &Connection) -> bool {
        connection.wire().is_rotated(&self.opened_with)
    }

    pub const fn client(&self) -> &Client {
        &self.client
    }

    pub const fn client_mut(&mut self) -> &mut Client {
        &mut self.client
    }

    pub async fn begin<'a>(&'a mut self, table: &'a ProgressTable) -> Result<BatchTransaction<'a>, StoreError> {
        let transaction = ended(self.client.transaction()).await?;
        Ok(BatchTransaction {
            transaction,
            table,
            statements: &self.statements,
        })
    }
}

/// The transaction that stores a batch and advances its partitions: all or nothing.
pub struct BatchTransaction<'a> {
    transaction: Transaction<'a>,
    table: &'a ProgressTable,
    statements: &'a ProgressStatements,
}

impl<'a> BatchTransaction<'a> {
    /// For sinks in the same database.
    pub const fn inner(&self) -> &Transaction<'a> {
        &self.transaction
    }

    /// See [`ProgressTable::lock`].
    pub async fn lock(&self, owners: &BTreeMap<i32, Uuid>) -> Result<BTreeMap<i32, i64>, StoreError> {
        ended(self.table.lock(&self.transaction, self.statements, owners)).await
    }

    /// Advances the locked rows, which takes effect with the commit.
    pub async fn advance(&self, advances: &BTreeMap<i32, Advance>) -> Result<(), StoreError> {
        ended(self.table.advance(&self.transaction, self.statements, advances)).await
    }

    pub async fn commit(self) -> Result<(), StoreError> {
        ended(self.transaction.commit()).await
    }

    pub async fn rollback(self) -> Result<(), StoreError> {
        ended(self.transaction.rollback()).await
    }
}

async fn ended<T>(request: impl Future<Output = Result<T, Error>>) -> Result<T, StoreError> {
    answered(request).await?.map_err(|e| postgres::explain("writing to PostgreSQL", &e))
}

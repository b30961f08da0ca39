//! A session and its prepared statements.

use std::sync::{Arc, Mutex, PoisonError};

use scylla::{client::session::Session, statement::prepared::PreparedStatement};
use userpipeline_api::document::CassandraTarget;
use userpipeline_record::RecordSchema;
use userpipeline_stores::{
    StoreError,
    cassandra::{Connection, explain_prepare},
    wire::Fingerprint,
};

pub struct PreparedSession {
    pub session: Arc<Session>,
    pub insert: PreparedStatement,
    pub delete: PreparedStatement,
    /// Other credentials or certificates need another session.
    opened_with: Fingerprint,
}

impl PreparedSession {
    /// Connects, and fails here where the table is missing.
    pub async fn open(target: &CassandraTarget, connection: &Connection, schema: &RecordSchema) -> Result<Self, StoreError> {
        let (session, opened_with) = connection.open().await?;
        let what = format!("writing to table `{}.{}`", target.keyspace, target.table);
        let prepare = async |statement: String| {
            let prepared = session.prepare(statement).await;
            let mut prepared = prepared.map_err(|e| explain_prepare(&what, &e))?;
            // Its version is the write time, so a repeated write changes nothing.
            prepared.set_is_idempotent(true);
            Ok::<_, StoreError>(prepared)
        };
        let insert = prepare(schema.cassandra_insert_cql(&target.keyspace, &target.table)).await?;
        let delete = prepare(schema.cassandra_delete_cql(&target.keyspace, &target.table)).await?;
        Ok(Self {
            session: Arc::new(session),
            insert,
            delete,
            opened_with,
        })
    }

    /// Whether credentials or certificates have changed since it was opened.
    pub fn is_rotated(&self, connection: &Connection) -> bool {
        connection.wire().is_rotated(&self.opened_with)
    }
}

/// The writer's session, shared with the health check while it is open.
#[derive(Clone, Default)]
pub struct SharedSession(Arc<Mutex<Option<Arc<Session>>>>);

impl SharedSession {
    pub fn get(&self) -> Option<Arc<Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set(&self, session: Option<Arc<Session>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = session;
    }
}

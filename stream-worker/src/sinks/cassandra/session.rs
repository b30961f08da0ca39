//! A session and its prepared statements.

use std::sync::{Arc, Mutex, PoisonError};

use scylla::{
    client::session::Session,
    statement::{
        batch::{Batch, BatchType},
        prepared::PreparedStatement,
    },
};
use userpipeline_api::document::CassandraTarget;
use userpipeline_record::RecordSchema;
use userpipeline_stores::{
    StoreError,
    cassandra::{Connection, explain_prepare},
    wire::Fingerprint,
};
use uuid::Uuid;

use super::{requests::MAX_STATEMENTS, values::Upsert};
use crate::model::Write;

pub struct PreparedSession {
    pub session: Arc<Session>,
    pub insert: PreparedStatement,
    /// Of 0 to [`MAX_STATEMENTS`] inserts.
    inserts: Vec<Batch>,
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
        let (insert, delete) = futures::try_join!(
            prepare(schema.cassandra_insert_cql(&target.keyspace, &target.table)),
            prepare(schema.cassandra_delete_cql(&target.keyspace, &target.table))
        )?;
        let inserts = (0..=MAX_STATEMENTS).map(|statements| {
            let mut batch = Batch::new_with_statements(BatchType::Unlogged, vec![insert.clone().into(); statements]);
            batch.set_is_idempotent(true);
            batch
        });
        Ok(Self {
            session: Arc::new(session),
            inserts: inserts.collect(),
            insert,
            delete,
            opened_with,
        })
    }

    /// A batch of so many inserts.
    pub fn inserts(&self, statements: usize) -> &Batch {
        &self.inserts[statements]
    }

    /// The node of the local datacenter that has the row, and is asked first; none where there is no choice.
    pub fn replica(&self, write: &Write, datacenter: &str) -> Option<Uuid> {
        let state = self.session.get_cluster_state();
        if state.get_nodes_info().len() < 2 {
            return None;
        }
        let token = self.insert.calculate_token(&Upsert(write)).ok()??;
        let table = self.insert.get_table_spec()?;
        let replicas = state.get_token_endpoints(table.ks_name(), table.table_name(), token);
        let mut local = replicas.iter().filter(|(node, _)| node.datacenter.as_deref() == Some(datacenter));
        local.next().map(|(node, _)| node.host_id)
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

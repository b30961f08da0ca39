//! Whether Cassandra answers.

use std::time::Duration;

use futures::future::LocalBoxFuture;
use userpipeline_stores::{
    StoreError,
    cassandra::{CASSANDRA_UNREACHABLE, explain},
};

use super::session::SharedSession;
use crate::sinks::sink::HealthCheck;

const TIMEOUT: Duration = Duration::from_secs(10);

pub struct CassandraHealth {
    pub session: SharedSession,
}

impl HealthCheck for CassandraHealth {
    fn check(&self) -> LocalBoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async {
            // Without a session the writer is opening one, and reports its errors.
            let Some(session) = self.session.get() else { return Ok(()) };
            match tokio::time::timeout(TIMEOUT, session.query_unpaged("SELECT key FROM system.local", ())).await {
                Ok(answer) => answer.map(drop).map_err(|e| explain("asking Cassandra", &e)),
                Err(_) => Err(StoreError::transient(CASSANDRA_UNREACHABLE, "Cassandra does not answer")),
            }
        })
    }
}

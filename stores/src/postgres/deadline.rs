//! A bound for every request to PostgreSQL.

use std::time::Duration;

use crate::{StoreError, error::POSTGRES_UNREACHABLE};

/// The server cancels a statement after two minutes. Without an answer by now the peer is gone, whatever the connection's state.
const LIMIT: Duration = Duration::from_secs(150);

/// The result of a request, if it comes within the limit.
pub async fn answered<T>(request: impl Future<Output = T>) -> Result<T, StoreError> {
    tokio::time::timeout(LIMIT, request).await.map_err(|_| {
        let message = format!("PostgreSQL has not answered for {} s", LIMIT.as_secs());
        StoreError::transient(POSTGRES_UNREACHABLE, message)
    })
}

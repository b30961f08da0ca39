//! The tables that all pipelines of a database share.

use tokio_postgres::{Error, Transaction};
use userpipeline_record::bookkeeping::{DDL, exists_query};

/// The statements that create what is missing. The others would only take locks.
pub async fn missing_statements(transaction: &Transaction<'_>) -> Result<Vec<&'static str>, Error> {
    let mut missing = Vec::new();
    for statement in DDL {
        let exists = match exists_query(statement) {
            Some(query) => transaction.query_one(&query, &[]).await?.get(0),
            None => false,
        };
        if !exists {
            missing.push(*statement);
        }
    }
    Ok(missing)
}

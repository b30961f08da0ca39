//! The tables that all pipelines of a database keep for themselves.

use tokio_postgres::{Error, Transaction};
use userpipeline_record::bookkeeping::{DDL, is_there};

/// What makes them, without what would lock one only to find that nothing is missing.
pub async fn statements(transaction: &Transaction<'_>) -> Result<Vec<&'static str>, Error> {
    let mut missing = Vec::new();
    for statement in DDL {
        let there = match is_there(statement) {
            Some(query) => transaction.query_one(&query, &[]).await?.get(0),
            None => false,
        };
        if !there {
            missing.push(*statement);
        }
    }
    Ok(missing)
}

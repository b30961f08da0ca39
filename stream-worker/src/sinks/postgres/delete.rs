//! Deletes a table when its pipeline is deleted.

use tokio_postgres::Transaction;
use userpipeline_record::postgres::quote;
use userpipeline_stores::{StoreError, postgres::explain};

use super::aggregates::drop_aggregates;
use crate::claims::Resource;

/// Deletes a table, the versions of records that were deleted from it, or expired, and its aggregates; or the view of an aggregate.
pub async fn delete_table(transaction: &Transaction<'_>, table: &Resource) -> Result<(), StoreError> {
    let failed = |e| explain(&format!("deleting {table}"), &e);
    drop_aggregates(transaction, &table.name).await.map_err(failed)?;
    transaction
        .batch_execute(&format!("DROP TABLE IF EXISTS {}", quote(&table.name)))
        .await
        .map_err(failed)?;
    for versions in ["tombstones", "expired_versions"] {
        let statement = format!("DELETE FROM userpipeline.{versions} WHERE table_name = $1");
        let deleted = transaction.execute(&statement, &[&table.name]).await;
        deleted.map_err(|e| explain(&format!("deleting the versions in userpipeline.{versions}"), &e))?;
    }
    Ok(())
}

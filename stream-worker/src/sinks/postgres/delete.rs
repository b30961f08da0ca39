//! Deletes a table when its pipeline is deleted.

use tokio_postgres::Transaction;
use userpipeline_record::postgres::quote;
use userpipeline_stores::{StoreError, postgres::explain};

use crate::claims::Resource;

/// Deletes a table and the versions of records that were deleted from it, or expired.
pub async fn delete_table(transaction: &Transaction<'_>, table: &Resource) -> Result<(), StoreError> {
    transaction
        .batch_execute(&format!("DROP TABLE IF EXISTS {}", quote(&table.name)))
        .await
        .map_err(|e| explain(&format!("deleting {table}"), &e))?;
    for versions in ["tombstones", "expired_versions"] {
        let statement = format!("DELETE FROM userpipeline.{versions} WHERE table_name = $1");
        let deleted = transaction.execute(&statement, &[&table.name]).await;
        deleted.map_err(|e| explain(&format!("deleting the versions in userpipeline.{versions}"), &e))?;
    }
    Ok(())
}

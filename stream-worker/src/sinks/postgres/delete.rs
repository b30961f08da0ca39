//! Deletes a table when its pipeline is deleted.

use tokio_postgres::Transaction;
use userpipeline_record::postgres::quote;
use userpipeline_stores::{StoreError, postgres::explain};

use crate::claims::Resource;

/// Deletes a table and the versions of records that were deleted from it.
pub async fn delete_table(transaction: &Transaction<'_>, table: &Resource) -> Result<(), StoreError> {
    transaction
        .batch_execute(&format!("DROP TABLE IF EXISTS {}", quote(&table.name)))
        .await
        .map_err(|e| explain(&format!("deleting {table}"), &e))?;
    transaction
        .execute("DELETE FROM userpipeline.tombstones WHERE table_name = $1", &[&table.name])
        .await
        .map(drop)
        .map_err(|e| explain("deleting the versions of records that were deleted", &e))
}

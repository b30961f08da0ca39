//! Deletes the table when its pipeline is deleted.

use userpipeline_api::{document::SchemaPipeline, names};
use userpipeline_stores::{Secrets, StoreError};

use super::cluster::{cluster_name, connection, execute, rows};
use crate::claims::Resource;

/// Deletes a table, and its keyspace where that derives from the pipeline and has no other table. False where the spec does
/// not lead to the table's cluster.
pub async fn delete_table(resource: &Resource, pipeline: &SchemaPipeline, secrets: &Secrets) -> Result<bool, StoreError> {
    let Some(target) = &pipeline.cassandra else { return Ok(false) };
    let session = connection(target, secrets).connect().await?;
    let Some((keyspace, table)) = resource.name.split_once('.') else {
        return Ok(false);
    };
    if cluster_name(&session).await? != resource.place {
        return Ok(false);
    }
    let tables = rows::<(String,)>(
        &session,
        "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ?",
        &[keyspace],
    )
    .await?;
    if tables.iter().any(|(name,)| name == table) {
        let statement = format!("DROP TABLE IF EXISTS \"{keyspace}\".\"{table}\"");
        execute(&session, &statement, &format!("deleting {resource}")).await?;
    }
    // A keyspace with another name may be shared.
    let is_alone = tables.iter().all(|(name,)| name == table);
    if is_alone && keyspace == names::keyspace(&pipeline.id) {
        let statement = format!("DROP KEYSPACE IF EXISTS \"{keyspace}\"");
        execute(&session, &statement, &format!("deleting keyspace {keyspace}")).await?;
    }
    Ok(true)
}

//! The sink table in PostgreSQL.

use tokio_postgres::Transaction;
use userpipeline_api::TableManagement;
use userpipeline_record::RecordSchema;
use userpipeline_stores::{StoreError, postgres::explain};

use super::table::Table;
use crate::sinks::sink::SchemaTask;

/// Creates the table where it is missing, and verifies it.
pub async fn apply(task: &SchemaTask<'_>, transaction: &Transaction<'_>) -> Result<(), StoreError> {
    let SchemaTask {
        pipeline, schema, mode, ..
    } = *task;
    let Some(name) = &pipeline.postgres_table else { return Ok(()) };
    let table = Table {
        transaction,
        name,
        part: "spec.sinks.postgres",
        schema,
        mode,
    };
    if pipeline.tables.postgres == TableManagement::None {
        table.must_exist().await?;
    } else {
        table
            .execute(&schema.sink_ddl(name))
            .await
            .map_err(|e| explain(&format!("making table `{name}` (spec.sinks.postgres.table)"), &e))?;
        table.add_columns(RecordSchema::sink_add).await?;
    }
    table.verify(&schema.sink_columns(), false).await
}

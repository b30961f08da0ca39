//! The sink table in PostgreSQL.

use tokio_postgres::Transaction;
use userpipeline_api::TableManagement;
use userpipeline_record::{RecordSchema, postgres::OFFSET};
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
    // External producers write to the topic, so the table decides versions.
    let is_arbiter = pipeline.landing_table.is_none();
    if pipeline.tables.postgres == TableManagement::None {
        table.must_exist().await?;
    } else {
        let failed = |e| explain(&format!("making table `{name}` (spec.sinks.postgres.table)"), &e);
        table.execute(&schema.sink_ddl(name)).await.map_err(failed)?;
        // Even without an effect, ALTER TABLE would wait for those who use the table.
        if is_arbiter && !table.columns().await?.iter().any(|column| column.name == OFFSET) {
            table.execute(&RecordSchema::sink_add_order(name)).await.map_err(failed)?;
        }
        table.add_columns(RecordSchema::sink_add).await?;
    }
    let columns = if is_arbiter {
        schema.sink_columns_ordered()
    } else {
        schema.sink_columns()
    };
    table.verify(&columns, false).await
}

//! The landing table.

use tokio_postgres::{Error, Transaction};
use userpipeline_api::TableManagement;
use userpipeline_record::{
    RecordSchema,
    postgres::{FILTERED, REQUEST, quote},
};
use userpipeline_stores::{StoreError, postgres::explain};

use crate::sinks::{SchemaTask, postgres::table::Table};

/// Creates or alters the table, and verifies it.
pub async fn apply(task: &SchemaTask<'_>, transaction: &Transaction<'_>) -> Result<(), StoreError> {
    let SchemaTask {
        pipeline, schema, mode, ..
    } = *task;
    let Some(name) = &pipeline.landing_table else { return Ok(()) };
    let table = Table {
        transaction,
        name,
        part: "spec.landing",
        schema,
        mode,
    };
    if pipeline.tables.landing == TableManagement::None {
        table.must_exist().await?;
        table.verify(&schema.landing_columns(), true).await
    } else {
        create(&table).await
    }
}

async fn create(table: &Table<'_>) -> Result<(), StoreError> {
    let (name, schema) = (table.name, table.schema);
    let failed = |e: Error| explain(&format!("making table `{name}` (spec.landing.table)"), &e);
    table.execute(&schema.landing_ddl(name)).await.map_err(failed)?;
    // Only what is missing is altered: even without an effect, ALTER TABLE would wait for those who use the table, and others
    // would wait behind it.
    let found = table.columns().await?;
    if !found.is_empty() && !found.iter().any(|column| column.name == "_deleted") {
        table.execute(&RecordSchema::landing_add_deleted(name)).await.map_err(failed)?;
    }
    if schema.order_by.is_some() && !found.is_empty() && !found.iter().any(|column| column.name == REQUEST) {
        table.execute(&RecordSchema::landing_add_order(name)).await.map_err(failed)?;
    }
    if schema.filter.is_some() && !found.is_empty() && !found.iter().any(|column| column.name == FILTERED) {
        table.execute(&RecordSchema::landing_add_filtered(name)).await.map_err(failed)?;
    }
    for column in table.columns().await? {
        let field = schema
            .fields
            .iter()
            .find(|f| f.name == column.name && column.not_null && !schema.is_key(f));
        if let Some(field) = field {
            table.execute(&RecordSchema::landing_relax(name, field)).await.map_err(failed)?;
        }
    }
    table.add_columns(RecordSchema::landing_add).await?;
    // Before the index: on a foreign table it would fail for a missing column, with a less useful message.
    table.verify(&schema.landing_columns(), true).await?;
    let (index, statement) = RecordSchema::landing_pending_index(name);
    let exists = table
        .transaction
        .query_one("SELECT to_regclass($1) IS NOT NULL", &[&quote(&index)])
        .await;
    if !exists.map_err(failed)?.get::<_, bool>(0) {
        table.execute(&statement).await.map_err(failed)?;
    }
    Ok(())
}

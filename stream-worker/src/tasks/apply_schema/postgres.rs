//! All tables in PostgreSQL: bookkeeping, landing table, sink table. One transaction: all of them or none.

use tokio_postgres::{Error, Transaction};
use userpipeline_api::StoreObjectKind;
use userpipeline_record::bookkeeping;
use userpipeline_stores::{
    StoreError,
    postgres::{Connection, explain},
};

use super::landing;
use crate::{
    claims::Holder,
    sinks::{
        self, SchemaTask,
        postgres::table::{claim, execute},
    },
    tasks::bookkeeping::missing_statements,
};

/// A change of a table waits for those who use it, and others wait behind it: not for long, because the Job is retried.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '10s'";

/// Creates missing tables, and verifies existing ones. A dry run does the same and rolls back.
pub async fn apply(task: &SchemaTask<'_>, connection: &Connection, holder: Option<&Holder>) -> Result<(), StoreError> {
    let SchemaTask { pipeline, mode, .. } = *task;
    let mut client = connection.connect(&format!("apply-schema {}", pipeline.id)).await?;
    let transaction = client.transaction().await.map_err(|e| explain("PostgreSQL", &e))?;
    if let Err(error) = create(task, &transaction, holder).await {
        // The transaction rolls back, so no table was created.
        holder.inspect(|holder| holder.created.withdraw(StoreObjectKind::Table, None));
        return Err(error);
    }
    if mode.is_dry_run() {
        return transaction.rollback().await.map_err(|e| explain("taking the plan back", &e));
    }
    transaction.commit().await.map_err(|e| explain("making the tables", &e))
}

async fn create(task: &SchemaTask<'_>, transaction: &Transaction<'_>, holder: Option<&Holder>) -> Result<(), StoreError> {
    let SchemaTask { pipeline, mode, .. } = *task;
    let failed = |what: &'static str| move |e: Error| explain(what, &e);
    transaction
        .execute("SELECT pg_advisory_xact_lock($1)", &[&bookkeeping::LOCK])
        .await
        .map_err(failed("waiting for another schema Job"))?;
    transaction.batch_execute(LOCK_TIMEOUT).await.map_err(failed("PostgreSQL"))?;
    let making = "making the tables of schema `userpipeline` (spec.postgres)";
    for statement in missing_statements(transaction).await.map_err(failed(making))? {
        execute(transaction, statement, mode).await.map_err(failed(making))?;
    }
    if let Some(holder) = holder {
        if let Some(table) = &pipeline.landing_table {
            claim(transaction, holder, table, pipeline.tables.landing).await?;
        }
        for sink in sinks::ALL {
            sink.claim_in_transaction(task, transaction, holder).await?;
        }
    }
    landing::apply(task, transaction).await?;
    for sink in sinks::ALL {
        sink.apply_schema_in_transaction(task, transaction).await?;
    }
    Ok(())
}

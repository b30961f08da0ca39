//! Tables in PostgreSQL: the bookkeeping, the landing table, the sink table. One transaction: all of them or none.

use tokio_postgres::Transaction;
use userpipeline_api::document::SchemaPipeline;
use userpipeline_record::{
    RecordSchema, bookkeeping,
    postgres::{Column, quote},
};
use userpipeline_stores::{Secrets, StoreError, postgres};

use super::columns::{Found, Wanted, verify};
use crate::claims::{Holder, Kind, Thing};

/// Makes the tables that are not there, and verifies those that are.
pub async fn apply(pipeline: &SchemaPipeline, schema: &RecordSchema, secrets: &Secrets, holder: Option<&Holder>) -> Result<(), StoreError> {
    let mut client = postgres::connect(&pipeline.postgres, secrets, &format!("apply-schema {}", pipeline.id)).await?;
    let explain = |what: &str| {
        let what = what.to_owned();
        move |e: tokio_postgres::Error| postgres::explain(&what, &e)
    };
    let transaction = client.transaction().await.map_err(explain("PostgreSQL"))?;
    transaction
        .execute("SELECT pg_advisory_xact_lock($1)", &[&bookkeeping::LOCK])
        .await
        .map_err(explain("waiting for another schema Job"))?;
    for statement in bookkeeping::DDL {
        transaction
            .batch_execute(statement)
            .await
            .map_err(explain("making the tables of schema `userpipeline` (spec.postgres)"))?;
    }

    if let Some(holder) = holder {
        for table in std::iter::once(&pipeline.landing_table).chain(&pipeline.postgres_table) {
            claim(&transaction, holder, table).await?;
        }
    }

    let landing = &pipeline.landing_table;
    let making_landing = format!("making table `{landing}` (spec.landing.table)");
    let ddl = schema.landing_ddl(landing);
    let (table, indexes) = ddl.split_at(ddl.len().min(1));
    for statement in table {
        transaction.batch_execute(statement).await.map_err(explain(&making_landing))?;
    }
    // Before the index: on somebody else's table it would fail for a column that is missing, and say less.
    check(&transaction, landing, "spec.landing.table", schema, &schema.landing_columns()).await?;
    for statement in indexes {
        transaction.batch_execute(statement).await.map_err(explain(&making_landing))?;
    }

    if let Some(sink) = &pipeline.postgres_table {
        transaction
            .batch_execute(&schema.sink_ddl(sink))
            .await
            .map_err(explain(&format!("making table `{sink}` (spec.sinks.postgres.table)")))?;
        check(&transaction, sink, "spec.sinks.postgres.table", schema, &schema.sink_columns()).await?;
    }
    transaction.commit().await.map_err(explain("making the tables"))
}

async fn claim(transaction: &Transaction<'_>, holder: &Holder, table: &str) -> Result<(), StoreError> {
    let row = transaction
        .query_one("SELECT to_regclass($1) IS NULL", &[&quote(table)])
        .await
        .map_err(|e| postgres::explain(&format!("looking for table `{table}`"), &e))?;
    let thing = Thing {
        kind: Kind::Table,
        place: String::new(),
        name: table.to_owned(),
    };
    holder.claim(transaction, &thing, row.get(0)).await
}

async fn check(
    transaction: &Transaction<'_>,
    table: &str,
    field: &str,
    schema: &RecordSchema,
    columns: &[Column],
) -> Result<(), StoreError> {
    let explain = |e| postgres::explain(&format!("verifying table `{table}` ({field})"), &e);
    // The catalogue and not information_schema, which hides columns for which the user has no right.
    let rows = transaction
        .query(
            "SELECT a.attname, t.typname, a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AS required FROM pg_attribute a \
             JOIN pg_type t ON t.oid = a.atttypid WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
            &[&quote(table)],
        )
        .await
        .map_err(explain)?;
    let found: Vec<Found> = rows
        .iter()
        .map(|row| Found {
            name: row.get(0),
            data_type: row.get(1),
            required: row.get(2),
        })
        .collect();
    let rows = transaction
        .query(
            "SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey) \
             WHERE i.indrelid = to_regclass($1) AND i.indisprimary ORDER BY a.attnum",
            &[&quote(table)],
        )
        .await
        .map_err(explain)?;
    let found_key: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let optional = |name: &str| name == "_published_version" || schema.fields.iter().any(|f| f.name == name && f.optional);
    let wanted: Vec<Wanted> = columns
        .iter()
        .map(|(name, data_type)| Wanted {
            name: name.clone(),
            data_type,
            optional: optional(name),
        })
        .collect();
    verify(&format!("`{table}` ({field})"), &wanted, &schema.key, &found, &found_key)
}

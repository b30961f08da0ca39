//! Tables in PostgreSQL: the bookkeeping, the landing table, the sink table. One transaction: all of them or none.

use tokio_postgres::Transaction;
use userpipeline_api::{TableManagement, document::SchemaPipeline};
use userpipeline_record::{
    Field, RecordSchema, bookkeeping,
    postgres::{Column, quote},
};
use userpipeline_stores::{Secrets, StoreError, error::TABLE_MISMATCH, postgres};

use super::{
    Hand,
    columns::{Found, Wanted, to_add, verify},
};
use crate::{
    bookkeeping::statements,
    claims::{Holder, Kind, Thing},
};

/// A change of a table waits for those who use it, and whoever comes later waits behind it: not for long, it is tried again.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '10s'";

/// Makes the tables that are not there, and verifies those that are. A plan does the same, and takes all of it back.
pub async fn apply(
    pipeline: &SchemaPipeline,
    schema: &RecordSchema,
    secrets: &Secrets,
    holder: Option<&Holder>,
    hand: &Hand,
) -> Result<(), StoreError> {
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
    transaction.batch_execute(LOCK_TIMEOUT).await.map_err(explain("PostgreSQL"))?;
    let making = "making the tables of schema `userpipeline` (spec.postgres)";
    for statement in statements(&transaction).await.map_err(explain(making))? {
        execute(&transaction, statement, hand).await.map_err(explain(making))?;
    }

    if let Some(holder) = holder {
        let landing = pipeline.landing_table.iter().map(|table| (table, pipeline.tables.landing));
        let sink = pipeline.postgres_table.iter().map(|table| (table, pipeline.tables.postgres));
        for (table, management) in landing.chain(sink) {
            claim(&transaction, holder, table, management).await?;
        }
    }

    if let Some(landing) = &pipeline.landing_table {
        if pipeline.tables.landing == TableManagement::None {
            must_be_there(&transaction, landing, "spec.landing").await?;
            check(&transaction, landing, "spec.landing.table", schema, &schema.landing_columns(), true).await?;
        } else {
            make_landing(&transaction, landing, schema, hand).await?;
        }
    }

    if let Some(sink) = &pipeline.postgres_table {
        if pipeline.tables.postgres == TableManagement::None {
            must_be_there(&transaction, sink, "spec.sinks.postgres").await?;
        } else {
            execute(&transaction, &schema.sink_ddl(sink), hand)
                .await
                .map_err(explain(&format!("making table `{sink}` (spec.sinks.postgres.table)")))?;
            extend(
                &transaction,
                sink,
                "spec.sinks.postgres.table",
                schema,
                RecordSchema::sink_add,
                hand,
            )
            .await?;
        }
        check(
            &transaction,
            sink,
            "spec.sinks.postgres.table",
            schema,
            &schema.sink_columns(),
            false,
        )
        .await?;
    }
    if hand.only_says() {
        return transaction.rollback().await.map_err(explain("taking the plan back"));
    }
    transaction.commit().await.map_err(explain("making the tables"))
}

/// A table that somebody else makes must be there.
async fn must_be_there(transaction: &Transaction<'_>, table: &str, part: &str) -> Result<(), StoreError> {
    if columns(transaction, table, &format!("{part}.table")).await?.is_empty() {
        return Err(StoreError::configuration(
            TABLE_MISMATCH,
            format!("table `{table}` ({part}.table) is not there, and {part}.management is None: make it, or choose Direct"),
        ));
    }
    Ok(())
}

/// Makes the landing table, or mends it.
async fn make_landing(transaction: &Transaction<'_>, landing: &str, schema: &RecordSchema, hand: &Hand) -> Result<(), StoreError> {
    let explain = |what: &str| {
        let what = what.to_owned();
        move |e: tokio_postgres::Error| postgres::explain(&what, &e)
    };
    let making_landing = format!("making table `{landing}` (spec.landing.table)");
    execute(transaction, &schema.landing_ddl(landing), hand)
        .await
        .map_err(explain(&making_landing))?;
    // What is there already is not asked for again: even where there is nothing to do, it would wait for those who use the table, and
    // others would wait behind it.
    let found = columns(transaction, landing, "spec.landing.table").await?;
    if !found.is_empty() && !found.iter().any(|column| column.name == "_deleted") {
        let statement = RecordSchema::landing_add_deleted(landing);
        execute(transaction, &statement, hand).await.map_err(explain(&making_landing))?;
    }
    for column in columns(transaction, landing, "spec.landing.table").await? {
        let field = schema
            .fields
            .iter()
            .find(|f| f.name == column.name && column.not_null && !schema.is_key(f));
        if let Some(statement) = field.map(|field| RecordSchema::landing_relax(landing, field)) {
            execute(transaction, &statement, hand).await.map_err(explain(&making_landing))?;
        }
    }
    extend(transaction, landing, "spec.landing.table", schema, RecordSchema::landing_add, hand).await?;
    // Before the index: on somebody else's table it would fail for a column that is missing, and say less.
    check(transaction, landing, "spec.landing.table", schema, &schema.landing_columns(), true).await?;
    let (index, statement) = RecordSchema::landing_pending_index(landing);
    let there = transaction.query_one("SELECT to_regclass($1) IS NOT NULL", &[&quote(&index)]).await;
    if !there.map_err(explain(&making_landing))?.get::<_, bool>(0) {
        execute(transaction, &statement, hand).await.map_err(explain(&making_landing))?;
    }
    Ok(())
}

/// How many objects this transaction has made or changed: every statement of ours does nothing where there is nothing to do.
const TOUCHED: &str = "SELECT (SELECT count(*) FROM pg_namespace WHERE xmin = own.id) + (SELECT count(*) FROM pg_class WHERE xmin = own.id) \
     + (SELECT count(*) FROM pg_attribute WHERE xmin = own.id) \
     FROM (SELECT (pg_current_xact_id()::text::bigint % 4294967296)::text::xid AS id) own";

async fn execute(transaction: &Transaction<'_>, statement: &str, hand: &Hand) -> Result<(), tokio_postgres::Error> {
    if !hand.only_says() {
        return transaction.batch_execute(statement).await;
    }
    let touched = async || Ok::<i64, tokio_postgres::Error>(transaction.query_one(TOUCHED, &[]).await?.get(0));
    let before = touched().await?;
    transaction.batch_execute(statement).await?;
    if touched().await? > before {
        let _ = hand.does(|| format!("PostgreSQL: {statement}"));
    }
    Ok(())
}

async fn claim(transaction: &Transaction<'_>, holder: &Holder, table: &str, management: TableManagement) -> Result<(), StoreError> {
    let row = transaction
        .query_one("SELECT to_regclass($1) IS NULL", &[&quote(table)])
        .await
        .map_err(|e| postgres::explain(&format!("looking for table `{table}`"), &e))?;
    let thing = Thing {
        kind: Kind::Table,
        place: String::new(),
        name: table.to_owned(),
    };
    let made = row.get::<_, bool>(0) && management == TableManagement::Direct;
    holder.claim(transaction, &thing, made).await.map(drop)
}

/// Adds the columns of fields that were declared since the table was made.
async fn extend(
    transaction: &Transaction<'_>,
    table: &str,
    field: &str,
    schema: &RecordSchema,
    add: impl Fn(&str, &Field) -> String,
    hand: &Hand,
) -> Result<(), StoreError> {
    let found = columns(transaction, table, field).await?;
    for added in to_add(&format!("`{table}` ({field})"), schema, &found)? {
        let statement = add(table, added);
        let failed = |e| postgres::explain(&format!("adding column `{}` to table `{table}` ({field})", added.name), &e);
        execute(transaction, &statement, hand).await.map_err(failed)?;
    }
    Ok(())
}

/// The columns that a table has.
async fn columns(transaction: &Transaction<'_>, table: &str, field: &str) -> Result<Vec<Found>, StoreError> {
    // The catalogue and not information_schema, which hides columns for which the user has no right.
    let rows = transaction
        .query(
            "SELECT a.attname, t.typname, a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AS required, a.attnotnull FROM pg_attribute a \
             JOIN pg_type t ON t.oid = a.atttypid WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
            &[&quote(table)],
        )
        .await
        .map_err(|e| postgres::explain(&format!("verifying table `{table}` ({field})"), &e))?;
    let found = rows.iter().map(|row| Found {
        name: row.get(0),
        data_type: row.get(1),
        required: row.get(2),
        not_null: row.get(3),
    });
    Ok(found.collect())
}

async fn check(
    transaction: &Transaction<'_>,
    table: &str,
    field: &str,
    schema: &RecordSchema,
    wanted: &[Column],
    nullable: bool,
) -> Result<(), StoreError> {
    let explain = |e| postgres::explain(&format!("verifying table `{table}` ({field})"), &e);
    let found = columns(transaction, table, field).await?;
    let rows = transaction
        .query(
            "SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey) \
             WHERE i.indrelid = to_regclass($1) AND i.indisprimary ORDER BY a.attnum",
            &[&quote(table)],
        )
        .await
        .map_err(explain)?;
    let found_key: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let optional = |name: &str| {
        name == "_published_version"
            || schema
                .fields
                .iter()
                .any(|f| f.name == name && (f.optional || nullable && !schema.is_key(f)))
    };
    let wanted: Vec<Wanted> = wanted
        .iter()
        .map(|(name, data_type)| Wanted {
            name: name.clone(),
            data_type,
            optional: optional(name),
        })
        .collect();
    verify(&format!("`{table}` ({field})"), &wanted, &schema.key, &found, &found_key)
}

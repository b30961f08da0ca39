//! The aggregates of the sink table: creates what is declared, and drops what no longer is. The totals of an aggregate are computed in one
//! transaction, get the view in the next one, and replaced totals are dropped in a third: a reader that delays one of them does not
//! make the Job compute again.

use std::time::Duration;

use tokio_postgres::{Client, Error, GenericClient, Transaction, error::SqlState};
use userpipeline_record::{
    aggregate::Aggregate,
    bookkeeping,
    postgres::{quote, totals::Statements},
};
use userpipeline_stores::{
    StoreError,
    error::{PIPELINE_INVALID, TABLE_MISMATCH},
    postgres::{Connection, explain},
};

use crate::{
    claims::{Claims, Holder, Kind, Resource},
    sinks::{
        SchemaTask,
        cassandra::apply_mirrors,
        postgres::aggregates::{drop_aggregate, drop_totals, retired},
    },
};

/// Totals of a large table take long. Writers of the sink table wait meanwhile; readers do not.
pub const TIMEOUT: Duration = Duration::from_secs(3000);
/// Who uses the sink table is waited for, and others wait behind: not for long, because the Job is retried.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '30s'";

/// Old totals can wait for a reader of the sink table, and workers would wait behind.
const DROP_TIMEOUT: &str = "SET LOCAL lock_timeout = '3s'";

/// An aggregate in the database.
struct Existing {
    view: String,
    totals: String,
}

/// Applies the aggregates, one after the other.
pub async fn apply(task: &SchemaTask<'_>, connection: &Connection, holder: Option<&Holder>, claims: &Claims) -> Result<(), StoreError> {
    let SchemaTask { pipeline, schema, .. } = *task;
    let Some(sink_table) = &pipeline.postgres_table else {
        return Ok(());
    };
    let aggregates = Aggregate::read(&pipeline.aggregates, schema, pipeline.sink_tables());
    let aggregates = aggregates.map_err(|problems| StoreError::configuration(PIPELINE_INVALID, problems))?;
    let mut client = connection.connect(&format!("apply-schema {}", pipeline.id)).await?;
    let existing = existing(&client, sink_table).await?;
    for gone in existing
        .iter()
        .filter(|one| aggregates.iter().all(|aggregate| aggregate.view != one.view))
    {
        drop_undeclared(task, &mut client, holder, gone).await?;
    }
    for aggregate in &aggregates {
        let old = existing.iter().find(|one| one.view == aggregate.view);
        if !is_current(&client, aggregate, old).await? {
            build(task, &mut client, holder, aggregate, old).await?;
        }
    }
    if !task.mode.is_dry_run() {
        drop_retired(&mut client, sink_table).await?;
    }
    // Last: the mirror of the old totals has ended with their record.
    apply_mirrors(task, &client, claims, &aggregates).await
}

async fn existing(client: &Client, sink_table: &str) -> Result<Vec<Existing>, StoreError> {
    let failed = |e| explain("reading userpipeline.aggregates", &e);
    let row = client.query_one("SELECT to_regclass('userpipeline.aggregates') IS NULL", &[]).await;
    // A dry run has not created it.
    if row.map_err(failed)?.get(0) {
        return Ok(Vec::new());
    }
    let statement = "SELECT view_name, totals FROM userpipeline.aggregates WHERE sink_table = $1 ORDER BY view_name";
    let rows = client.query(statement, &[&sink_table]).await.map_err(failed)?;
    let existing = rows.iter().map(|row| Existing {
        view: row.get(0),
        totals: row.get(1),
    });
    Ok(existing.collect())
}

/// Whether the totals of this definition are there, with their triggers and the view.
async fn is_current(client: &Client, aggregate: &Aggregate, existing: Option<&Existing>) -> Result<bool, StoreError> {
    if existing.is_none_or(|existing| existing.totals != aggregate.names().base()) {
        return Ok(false);
    }
    let view = client
        .query_one("SELECT to_regclass($1) IS NOT NULL", &[&quote(&aggregate.view)])
        .await;
    let has_view: bool = view.map_err(|e| explain("looking for the view of an aggregate", &e))?.get(0);
    Ok(has_view && is_computed(client, aggregate).await?)
}

/// Whether the totals of this definition are there, with their triggers.
async fn is_computed(client: &Client, aggregate: &Aggregate) -> Result<bool, StoreError> {
    let statement = aggregate.names().exist(&aggregate.sink_table);
    let row = client.query_one(&statement, &[]).await;
    Ok(row.map_err(|e| explain("looking at the totals of an aggregate", &e))?.get(0))
}

async fn drop_undeclared(task: &SchemaTask<'_>, client: &mut Client, holder: Option<&Holder>, gone: &Existing) -> Result<(), StoreError> {
    if !task.mode.applies(|| {
        format!(
            "PostgreSQL: drop view `{}`, which spec.aggregates no longer declares, and its totals",
            gone.view
        )
    }) {
        return Ok(());
    }
    let explained = |e: Error| explain(&format!("dropping aggregate `{}`", gone.view), &e);
    let transaction = client.transaction().await.map_err(explained)?;
    transaction.batch_execute(LOCK_TIMEOUT).await.map_err(explained)?;
    drop_and_remember(task, &transaction, &gone.view, &gone.totals)
        .await
        .map_err(explained)?;
    if let Some(holder) = holder {
        holder.release(&transaction, &claimed(&gone.view)).await?;
    }
    transaction.commit().await.map_err(explained)?;
    tracing::info!(view = gone.view, "dropped an aggregate that is no longer declared");
    Ok(())
}

/// The total of late record versions never decreases.
async fn drop_and_remember(task: &SchemaTask<'_>, transaction: &Transaction<'_>, view: &str, totals: &str) -> Result<(), Error> {
    let late = drop_aggregate(transaction, view, totals).await?;
    let pipeline = task.pipeline.id.to_string();
    transaction.execute(bookkeeping::FORGET_LATE, &[&pipeline, &late]).await.map(drop)
}

fn claimed(view: &str) -> Resource {
    Resource {
        kind: Kind::Table,
        place: String::new(),
        name: view.to_owned(),
    }
}

/// Creates the totals from the rows of the sink table, beside the old ones, and then replaces the view.
async fn build(
    task: &SchemaTask<'_>,
    client: &mut Client,
    holder: Option<&Holder>,
    aggregate: &Aggregate,
    old: Option<&Existing>,
) -> Result<(), StoreError> {
    if task.mode.is_dry_run() {
        let rows = estimated_rows(client, &aggregate.sink_table).await?;
        let change = || {
            format!(
                "PostgreSQL: compute aggregate `{}` from about {rows} rows of table `{}` (workers wait meanwhile), and {} view `{}`",
                aggregate.name,
                aggregate.sink_table,
                if old.is_some() { "replace" } else { "create" },
                aggregate.view
            )
        };
        task.mode.applies(change);
        return Ok(());
    }
    let explained = |e: Error| explain(&format!("computing aggregate `{}` (spec.aggregates)", aggregate.name), &e);
    is_free(client, aggregate, old).await?;
    if !is_computed(client, aggregate).await? {
        let started = std::time::Instant::now();
        compute(task, client, aggregate, old).await.map_err(explained)?;
        tracing::info!(aggregate = aggregate.name, took = ?started.elapsed(), "computed an aggregate");
    }
    let explained = |e: Error| explain(&format!("creating view `{}` (spec.aggregates)", aggregate.view), &e);
    let mut transaction = client.transaction().await.map_err(explained)?;
    transaction.batch_execute(LOCK_TIMEOUT).await.map_err(explained)?;
    is_free(&transaction, aggregate, old).await?;
    if let Some(holder) = holder {
        holder.claim(&transaction, &claimed(&aggregate.view), old.is_none()).await?;
    }
    show(&mut transaction, aggregate).await.map_err(explained)?;
    transaction.commit().await.map_err(explained)?;
    tracing::info!(aggregate = aggregate.name, view = aggregate.view, "the view has the totals");
    Ok(())
}

/// Computes the totals, which follow the sink table from then on.
async fn compute(task: &SchemaTask<'_>, client: &mut Client, aggregate: &Aggregate, old: Option<&Existing>) -> Result<(), Error> {
    let names = aggregate.names();
    let transaction = client.transaction().await?;
    let limit = format!("SET LOCAL statement_timeout = '{}s'; {LOCK_TIMEOUT}", TIMEOUT.as_secs());
    transaction.batch_execute(&limit).await?;
    let Statements {
        settings,
        lock,
        tables,
        fill,
        triggers,
        view: _,
    } = aggregate.statements();
    transaction.batch_execute(&format!("{settings}; {lock}")).await?;
    // The same totals, of which something was dropped by hand.
    if old.is_some_and(|old| old.totals == names.base()) {
        drop_and_remember(task, &transaction, &aggregate.view, names.base()).await?;
    } else {
        drop_totals(&transaction, names.base()).await?;
    }
    for statement in tables.iter().chain([&fill]).chain(&triggers) {
        transaction.batch_execute(statement).await?;
    }
    transaction.commit().await
}

/// Lets the view read the totals, and records that.
async fn show(transaction: &mut Transaction<'_>, aggregate: &Aggregate) -> Result<(), Error> {
    replace_view(transaction, aggregate, &aggregate.statements().view).await?;
    let record = "INSERT INTO userpipeline.aggregates AS a (view_name, sink_table, totals) VALUES ($1, $2, $3) \
                  ON CONFLICT (view_name) DO UPDATE SET totals = excluded.totals, mirrored = NULL";
    transaction
        .execute(record, &[&aggregate.view, &aggregate.sink_table, &aggregate.names().base()])
        .await
        .map(drop)
}

/// Drops totals that no view has any more. Who reads the sink table delays this.
async fn drop_retired(client: &mut Client, sink_table: &str) -> Result<(), StoreError> {
    let failed = |e: Error| explain("dropping totals that were replaced (spec.aggregates)", &e);
    for totals in retired(client, sink_table).await.map_err(failed)? {
        let transaction = client.transaction().await.map_err(failed)?;
        transaction.batch_execute(DROP_TIMEOUT).await.map_err(failed)?;
        drop_totals(&transaction, &totals).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        tracing::info!(totals, "dropped totals that were replaced");
    }
    Ok(())
}

/// A view with other columns is dropped before.
async fn replace_view(transaction: &mut Transaction<'_>, aggregate: &Aggregate, statement: &str) -> Result<(), Error> {
    let attempt = transaction.transaction().await?;
    match attempt.batch_execute(statement).await {
        Ok(()) => return attempt.commit().await,
        Err(e) if e.code() == Some(&SqlState::INVALID_TABLE_DEFINITION) => attempt.rollback().await?,
        Err(e) => return Err(e),
    }
    transaction.batch_execute(&format!("DROP VIEW {}", quote(&aggregate.view))).await?;
    transaction.batch_execute(statement).await
}

/// The name of the view is not that of something else.
async fn is_free(client: &impl GenericClient, aggregate: &Aggregate, old: Option<&Existing>) -> Result<(), StoreError> {
    let failed = |e| explain("looking for the view of an aggregate", &e);
    let row = client.query_one("SELECT to_regclass($1) IS NULL", &[&quote(&aggregate.view)]).await;
    let is_free: bool = row.map_err(failed)?.get(0);
    if is_free || old.is_some() {
        return Ok(());
    }
    let message = format!(
        "`{}`, the name of the view of aggregate `{}`, is that of another table or view, which stays as it is: set another name in \
         spec.aggregates[].sinks.postgres.view",
        aggregate.view, aggregate.name
    );
    Err(StoreError::configuration(TABLE_MISMATCH, message))
}

/// From PostgreSQL's statistics.
async fn estimated_rows(client: &Client, table: &str) -> Result<i64, StoreError> {
    let statement = "SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = to_regclass($1)";
    let row = client.query_opt(statement, &[&quote(table)]).await;
    let row = row.map_err(|e| explain("estimating the rows of the sink table", &e))?;
    Ok(row.map_or(0, |row| row.get(0)))
}

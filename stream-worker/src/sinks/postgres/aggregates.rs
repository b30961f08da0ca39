//! What is behind the aggregates of a sink table.

use tokio_postgres::{Error, GenericClient, Transaction};
use userpipeline_record::postgres::{quote, totals::Names};

/// Drops totals, and the triggers on the sink table. Their view must not use them any more.
pub async fn drop_totals(transaction: &Transaction<'_>, totals: &str) -> Result<(), Error> {
    for statement in Names::of(totals.to_owned()).drop() {
        transaction.batch_execute(&statement).await?;
    }
    Ok(())
}

/// Drops a view and its totals, and returns how many late record versions they did not count.
pub async fn drop_aggregate(transaction: &Transaction<'_>, view: &str, totals: &str) -> Result<i64, Error> {
    transaction.batch_execute(&format!("DROP VIEW IF EXISTS {}", quote(view))).await?;
    drop_totals(transaction, totals).await?;
    let forget = "DELETE FROM userpipeline.aggregates WHERE view_name = $1 RETURNING late";
    let row = transaction.query_opt(forget, &[&view]).await?;
    Ok(row.map_or(0, |row| row.get(0)))
}

/// Totals of a sink table that no view has: replaced ones, and those of a definition that was changed before it had a view.
pub async fn retired(client: &impl GenericClient, sink_table: &str) -> Result<Vec<String>, Error> {
    let statement = "SELECT left(t.tgname, -length('_truncate')) FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = t.tgfoid \
         WHERE t.tgrelid = to_regclass($1) AND t.tgname LIKE '%\\_truncate' AND p.prosrc LIKE '%userpipeline totals %' \
         AND left(t.tgname, -length('_truncate')) NOT IN (SELECT totals FROM userpipeline.aggregates) ORDER BY 1";
    let rows = client.query(statement, &[&quote(sink_table)]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Drops all aggregates of a sink table, or the one with this view.
pub async fn drop_aggregates(transaction: &Transaction<'_>, name: &str) -> Result<(), Error> {
    let of = "SELECT view_name, totals FROM userpipeline.aggregates WHERE sink_table = $1 OR view_name = $1";
    for row in transaction.query(of, &[&name]).await? {
        drop_aggregate(transaction, row.get(0), row.get(1)).await?;
    }
    for totals in retired(transaction, name).await? {
        drop_totals(transaction, &totals).await?;
    }
    Ok(())
}

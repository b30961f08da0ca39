//! Keyspace and table in Cassandra.

use std::collections::HashMap;

use scylla::client::session::Session;
use userpipeline_api::{TableManagement, document::SchemaPipeline};
use userpipeline_record::{
    RecordSchema,
    cassandra::{Keeping, column_type, keyspace_cql},
};
use userpipeline_stores::{
    Secrets, StoreError, cassandra,
    error::{CASSANDRA_FAILED, TABLE_MISMATCH},
};

use super::{
    Hand,
    columns::{Found, Wanted, to_add, verify},
};
use crate::claims::{Claims, Kind};

/// Makes keyspace and table where they are not there, and verifies the table.
pub async fn apply(
    pipeline: &SchemaPipeline,
    schema: &RecordSchema,
    secrets: &Secrets,
    claims: &Claims,
    hand: &Hand,
) -> Result<(), StoreError> {
    let Some(target) = &pipeline.cassandra else { return Ok(()) };
    let session = cassandra::connect(&target.cluster, target.consistency, secrets).await?;
    let (keyspace, table) = (&target.keyspace, &target.table);
    let mut columns = columns(&session, keyspace, table).await?;
    if claims.are_taken() {
        let cluster = cluster_name(&session).await?;
        let made = columns.is_empty() && pipeline.tables.cassandra == TableManagement::Direct;
        claims
            .take(Kind::CassandraTable, &cluster, &format!("{keyspace}.{table}"), made)
            .await?;
    }
    if pipeline.tables.cassandra == TableManagement::None && columns.is_empty() {
        return Err(StoreError::configuration(
            TABLE_MISMATCH,
            format!(
                "table `{keyspace}.{table}` (spec.sinks.cassandra.table) is not there, and spec.sinks.cassandra.management is None: make it, or choose Direct"
            ),
        ));
    }
    // Asked first, so that a user who may not make keyspaces can use one that was made for it.
    if rows::<(String,)>(
        &session,
        "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = ?",
        &[keyspace],
    )
    .await?
    .is_empty()
        && hand.does(|| format!("Cassandra: {}", keyspace_cql(keyspace, &pipeline.replication)))
    {
        execute(
            &session,
            &keyspace_cql(keyspace, &pipeline.replication),
            &format!("making keyspace `{keyspace}` (spec.sinks.cassandra)"),
        )
        .await?;
    }
    if columns.is_empty() {
        if !hand.does(|| format!("Cassandra: {}", schema.cassandra_table_cql(keyspace, table))) {
            let made = Keeping::of_a_new_table();
            if let Some(statement) = keeping(pipeline, schema.has_deletes()).unlike(&made).alter_cql(keyspace, table) {
                let _ = hand.does(|| format!("Cassandra: {statement}"));
            }
            return Ok(());
        }
        execute(
            &session,
            &schema.cassandra_table_cql(keyspace, table),
            &format!("making table `{keyspace}.{table}` (spec.sinks.cassandra)"),
        )
        .await?;
        agreed(&session, keyspace, table).await?;
        columns = self::columns(&session, keyspace, table).await?;
    }
    let place = format!("`{keyspace}.{table}` (spec.sinks.cassandra.table)");
    let key = |kind: &str| {
        let mut key: Vec<_> = columns.iter().filter(|(.., found, _)| found == kind).collect();
        key.sort_by_key(|(.., position)| *position);
        key.into_iter().map(|(name, ..)| name.clone()).collect::<Vec<_>>()
    };
    let (partition, clustering) = (key("partition_key"), key("clustering"));
    let wanted: Vec<String> = schema.partition_key().cloned().collect();
    if (&partition, &clustering) != (&wanted, &schema.cluster_by) {
        return Err(StoreError::configuration(
            TABLE_MISMATCH,
            format!(
                "table {place}: the primary key must be (({}){}) and is (({}){}); change spec.record.key and clusterBy, or make a new pipeline with another table",
                wanted.join(", "),
                behind(&schema.cluster_by),
                partition.join(", "),
                behind(&clustering)
            ),
        ));
    }
    // Nothing is required in Cassandra but the key, which is compared on its own.
    let found: Vec<Found> = columns
        .into_iter()
        .map(|(name, data_type, ..)| Found {
            name,
            data_type,
            required: false,
            not_null: false,
        })
        .collect();
    let mut found: Vec<Found> = found;
    let missing = match pipeline.tables.cassandra {
        TableManagement::Direct => to_add(&place, schema, &found)?,
        TableManagement::None => Vec::new(),
    };
    for added in missing {
        let statement = schema.cassandra_add_cql(keyspace, table, added);
        if hand.does(|| format!("Cassandra: {statement}")) {
            execute(&session, &statement, &format!("adding column `{}` to table {place}", added.name)).await?;
            agreed(&session, keyspace, table).await?;
        }
        found.push(Found {
            name: added.name.clone(),
            data_type: column_type(added.field_type).to_owned(),
            required: false,
            not_null: false,
        });
    }
    let wanted: Vec<Wanted> = schema
        .fields
        .iter()
        .map(|f| Wanted {
            name: f.name.clone(),
            data_type: column_type(f.field_type),
            optional: f.optional,
        })
        .collect();
    verify(&place, &wanted, &[], &found, &[])?;
    let change = keeping(pipeline, schema.has_deletes()).unlike(&kept(&session, keyspace, table).await?);
    if let Some(statement) = change.alter_cql(keyspace, table)
        && hand.does(|| format!("Cassandra: {statement}"))
    {
        execute(&session, &statement, &format!("changing how table {place} keeps its rows")).await?;
        agreed(&session, keyspace, table).await?;
    }
    Ok(())
}

/// A dead letter is older than the delete that came after it.
const DAY: std::time::Duration = std::time::Duration::from_secs(86_400);

/// How the table is to keep its rows. Where records are deleted, the delete is remembered for longer than the dead letters that could
/// be driven again.
fn keeping(pipeline: &SchemaPipeline, deletes: bool) -> Keeping {
    // What the table's options hold.
    let seconds = |time: std::time::Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX).min(i32::MAX.into());
    Keeping {
        time_to_live: pipeline.time_to_live.map(|time| seconds(time.into())),
        deletes: deletes.then(|| seconds(pipeline.dead_letter_retention.saturating_add(DAY))),
        compaction: pipeline.compaction.as_ref().map(|compaction| {
            let class = ("class".to_owned(), format!("{:?}", compaction.class));
            compaction.options.clone().into_iter().chain([class]).collect()
        }),
    }
}

/// How the table keeps its rows.
async fn kept(session: &Session, keyspace: &str, table: &str) -> Result<Keeping, StoreError> {
    let found = rows::<(i32, HashMap<String, String>, i32)>(
        session,
        "SELECT default_time_to_live, compaction, gc_grace_seconds FROM system_schema.tables WHERE keyspace_name = ? AND table_name = ?",
        &[keyspace, table],
    )
    .await?;
    let keeping = |(seconds, compaction, deletes): (i32, HashMap<String, String>, i32)| Keeping {
        time_to_live: Some(i64::from(seconds)),
        compaction: Some(compaction.into_iter().collect()),
        deletes: Some(i64::from(deletes)),
    };
    Ok(found.into_iter().next().map_or_else(Keeping::default, keeping))
}

/// The rest of a key, as it is written.
fn behind(names: &[String]) -> String {
    names.iter().map(|name| format!(", {name}")).collect::<Vec<_>>().concat()
}

async fn agreed(session: &Session, keyspace: &str, table: &str) -> Result<(), StoreError> {
    let disagree = |e| {
        StoreError::transient(
            CASSANDRA_FAILED,
            format!("the nodes do not agree on table `{keyspace}.{table}` yet: {e}"),
        )
    };
    session.await_schema_agreement().await.map(drop).map_err(disagree)
}

async fn columns(session: &Session, keyspace: &str, table: &str) -> Result<Vec<(String, String, String, i32)>, StoreError> {
    rows(
        session,
        "SELECT column_name, type, kind, position FROM system_schema.columns WHERE keyspace_name = ? AND table_name = ?",
        &[keyspace, table],
    )
    .await
}

/// Runs a statement; `what` is told with its error.
pub async fn execute(session: &Session, statement: &str, what: &str) -> Result<(), StoreError> {
    session
        .query_unpaged(statement, ())
        .await
        .map(drop)
        .map_err(|e| cassandra::explain(what, &e))
}

/// What tells this cluster from any other.
pub async fn cluster_name(session: &Session) -> Result<String, StoreError> {
    let found = rows::<(String,)>(session, "SELECT cluster_name FROM system.local", &[]).await?;
    Ok(found.into_iter().next().map(|(name,)| name).unwrap_or_default())
}

/// The rows of a small answer.
pub async fn rows<T>(session: &Session, statement: &str, values: &[&str]) -> Result<Vec<T>, StoreError>
where
    T: for<'f, 'm> scylla::deserialize::row::DeserializeRow<'f, 'm>,
{
    let what = "reading Cassandra's schema";
    let unexpected = |e: &dyn std::fmt::Display| StoreError::configuration(CASSANDRA_FAILED, format!("{what}: {e}"));
    let answer = session
        .query_unpaged(statement, values)
        .await
        .map_err(|e| cassandra::explain(what, &e))?;
    let answer = answer.into_rows_result().map_err(|e| unexpected(&e))?;
    answer
        .rows::<T>()
        .map_err(|e| unexpected(&e))?
        .collect::<Result<_, _>>()
        .map_err(|e| unexpected(&e))
}

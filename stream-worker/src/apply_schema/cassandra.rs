//! Keyspace and table in Cassandra.

use scylla::client::session::Session;
use userpipeline_api::document::SchemaPipeline;
use userpipeline_record::{RecordSchema, cassandra::keyspace_cql};
use userpipeline_stores::{Secrets, StoreError, cassandra, error::CASSANDRA_FAILED};

use super::{
    Hand,
    columns::{Found, Wanted, verify},
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
        claims
            .take(Kind::CassandraTable, &cluster, &format!("{keyspace}.{table}"), columns.is_empty())
            .await?;
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
            return Ok(());
        }
        execute(
            &session,
            &schema.cassandra_table_cql(keyspace, table),
            &format!("making table `{keyspace}.{table}` (spec.sinks.cassandra)"),
        )
        .await?;
        session.await_schema_agreement().await.map_err(|e| {
            StoreError::transient(
                CASSANDRA_FAILED,
                format!("the nodes do not agree on table `{keyspace}.{table}` yet: {e}"),
            )
        })?;
        columns = self::columns(&session, keyspace, table).await?;
    }
    let key: Vec<String> = columns
        .iter()
        .filter(|(.., kind)| kind == "partition_key" || kind == "clustering")
        .map(|(name, ..)| name.clone())
        .collect();
    // Nothing is required in Cassandra but the key, which is compared on its own.
    let found: Vec<Found> = columns
        .into_iter()
        .map(|(name, data_type, _)| Found {
            name,
            data_type,
            required: false,
        })
        .collect();
    let wanted: Vec<Wanted> = schema
        .fields
        .iter()
        .map(|f| Wanted {
            name: f.name.clone(),
            data_type: f.field_type.cassandra(),
            optional: f.optional,
        })
        .collect();
    verify(
        &format!("`{keyspace}.{table}` (spec.sinks.cassandra.table)"),
        &wanted,
        &schema.key,
        &found,
        &key,
    )
}

async fn columns(session: &Session, keyspace: &str, table: &str) -> Result<Vec<(String, String, String)>, StoreError> {
    rows(
        session,
        "SELECT column_name, type, kind FROM system_schema.columns WHERE keyspace_name = ? AND table_name = ?",
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

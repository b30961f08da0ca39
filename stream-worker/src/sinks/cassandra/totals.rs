//! The tables of aggregates in Cassandra. The totals in PostgreSQL are the original; a mirror writes what changes in them.

use scylla::client::session::Session;
use tokio_postgres::Client;
use userpipeline_api::document::{CassandraTarget, SchemaPipeline};
use userpipeline_record::{aggregate::Aggregate, postgres::quote};
use userpipeline_stores::{StoreError, error::TABLE_MISMATCH, postgres};

use super::{
    cluster::{await_agreement, cluster_name, connection, execute, rows},
    schema,
};
use crate::{
    claims::{Claims, Kind, Resource},
    created_objects::Creator,
    sinks::SchemaTask,
};

/// What the comment of a table begins with; the definition follows.
const MARK: &str = "Totals ";

/// The table of an aggregate, beside the sink table.
pub fn mirror_target(sink: &CassandraTarget, aggregate: &Aggregate) -> Option<CassandraTarget> {
    Some(CassandraTarget {
        table: aggregate.mirror.clone()?,
        ..sink.clone()
    })
}

/// Creates the tables. One that does not have exactly these totals is emptied; the mirror fills it again.
pub async fn apply_mirrors(task: &SchemaTask<'_>, client: &Client, claims: &Claims, aggregates: &[Aggregate]) -> Result<(), StoreError> {
    for aggregate in aggregates {
        let (Some(sink), Some(schema)) = (&task.pipeline.cassandra, aggregate.mirror_schema()) else {
            continue;
        };
        let Some(target) = mirror_target(sink, aggregate) else { continue };
        let pipeline = SchemaPipeline {
            cassandra: Some(target.clone()),
            // The mirror deletes totals that expire.
            time_to_live: None,
            ..task.pipeline.clone()
        };
        let own = SchemaTask {
            pipeline: &pipeline,
            schema: &schema,
            ..*task
        };
        let session = connection(&target, task.secrets).connect().await?;
        let comment = comment(&session, &target).await?;
        if let Some(comment) = &comment {
            verify_own(&session, claims, &target, aggregate, comment).await?;
        }
        schema::apply(&own, claims).await?;
        if !task.mode.is_dry_run() {
            fill_again(&session, client, &target, aggregate, &comment.unwrap_or_default()).await?;
        }
    }
    Ok(())
}

/// None where there is no such table.
async fn comment(session: &Session, target: &CassandraTarget) -> Result<Option<String>, StoreError> {
    let statement = "SELECT comment FROM system_schema.tables WHERE keyspace_name = ? AND table_name = ?";
    let found = rows::<(Option<String>,)>(session, statement, &[&target.keyspace, &target.table]).await?;
    Ok(found.into_iter().next().map(|(comment,)| comment.unwrap_or_default()))
}

/// A table that is not the pipeline's own is neither altered nor emptied.
async fn verify_own(
    session: &Session,
    claims: &Claims,
    target: &CassandraTarget,
    aggregate: &Aggregate,
    comment: &str,
) -> Result<(), StoreError> {
    let CassandraTarget { keyspace, table, .. } = target;
    let resource = Resource {
        kind: Kind::CassandraTable,
        place: cluster_name(session).await?,
        name: format!("{keyspace}.{table}"),
    };
    let has_totals = comment.starts_with(MARK);
    let is_own = match claims.creator(&resource, false).await? {
        Some(Creator::Pipeline) => true,
        // That of an earlier pipeline of the same name, or of a file that is applied by hand.
        Some(Creator::Claimed) | None => has_totals,
        Some(Creator::Other) => false,
    };
    if is_own {
        return Ok(());
    }
    let message = format!(
        "the pipeline did not create table `{keyspace}.{table}`, so it is not used for aggregate `{}`: set another name in \
         spec.aggregates[].sinks.cassandra.table",
        aggregate.name
    );
    Err(StoreError::configuration(TABLE_MISMATCH, message))
}

/// Empties a table that has other totals, and lets the mirror begin again. The comment says which a table has: their definition, and the
/// table that they were computed into.
async fn fill_again(
    session: &Session,
    client: &Client,
    target: &CassandraTarget,
    aggregate: &Aggregate,
    current: &str,
) -> Result<(), StoreError> {
    let CassandraTarget { keyspace, table, .. } = target;
    let names = aggregate.names();
    let failed = |e| postgres::explain("looking at the totals of an aggregate", &e);
    let row = client
        .query_one("SELECT to_regclass($1)::oid::bigint", &[&quote(names.base())])
        .await;
    let computed: Option<i64> = row.map_err(failed)?.get(0);
    let comment = format!("{MARK}{} {}", names.base(), computed.unwrap_or_default());
    if current == comment {
        return Ok(());
    }
    let name = format!("{}.{}", quote(keyspace), quote(table));
    if current.starts_with(MARK) {
        let what = format!("emptying table {name} (spec.aggregates)");
        execute(session, &format!("TRUNCATE {name}"), &what).await?;
    }
    // A mirror that is writing notices each change of it.
    let restart = "UPDATE userpipeline.aggregates SET mirrored = CASE WHEN mirrored IS NULL THEN '1'::xid8 END WHERE view_name = $1";
    client.execute(restart, &[&aggregate.view]).await.map_err(failed)?;
    let what = format!("marking table {name} (spec.aggregates)");
    execute(session, &format!("ALTER TABLE {name} WITH comment = '{comment}'"), &what).await?;
    await_agreement(session, keyspace, table).await
}

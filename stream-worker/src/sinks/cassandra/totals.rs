//! The tables of aggregates in Cassandra. The totals in PostgreSQL are the original; a mirror writes what changes in them.

use userpipeline_api::document::{CassandraTarget, SchemaPipeline};
use userpipeline_record::{aggregate::Aggregate, postgres::quote};
use userpipeline_stores::StoreError;

use super::{
    cluster::{await_agreement, connection, execute, rows},
    schema,
};
use crate::{claims::Claims, sinks::SchemaTask};

/// What the comment of a table begins with; the definition follows.
const MARK: &str = "Totals ";

/// The table of an aggregate, beside the sink table.
pub fn mirror_target(sink: &CassandraTarget, aggregate: &Aggregate) -> Option<CassandraTarget> {
    Some(CassandraTarget {
        table: aggregate.mirror.clone()?,
        ..sink.clone()
    })
}

/// Creates the tables. One that has the totals of another definition is emptied; the mirror fills it again.
pub async fn apply_mirrors(task: &SchemaTask<'_>, claims: &Claims, aggregates: &[Aggregate]) -> Result<(), StoreError> {
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
        schema::apply(&own, claims).await?;
        if !task.mode.is_dry_run() {
            empty_if_outdated(task, &target, aggregate).await?;
        }
    }
    Ok(())
}

async fn empty_if_outdated(task: &SchemaTask<'_>, target: &CassandraTarget, aggregate: &Aggregate) -> Result<(), StoreError> {
    let CassandraTarget { keyspace, table, .. } = target;
    let session = connection(target, task.secrets).connect().await?;
    let statement = "SELECT comment FROM system_schema.tables WHERE keyspace_name = ? AND table_name = ?";
    let found = rows::<(Option<String>,)>(&session, statement, &[keyspace, table]).await?;
    let comment = format!("{MARK}{}", aggregate.names().base());
    let current = found.into_iter().find_map(|(comment,)| comment).unwrap_or_default();
    if current == comment {
        return Ok(());
    }
    let name = format!("{}.{}", quote(keyspace), quote(table));
    if current.starts_with(MARK) {
        execute(
            &session,
            &format!("TRUNCATE {name}"),
            &format!("emptying table {name} (spec.aggregates)"),
        )
        .await?;
    }
    let what = format!("marking table {name} (spec.aggregates)");
    execute(&session, &format!("ALTER TABLE {name} WITH comment = '{comment}'"), &what).await?;
    await_agreement(&session, keyspace, table).await
}

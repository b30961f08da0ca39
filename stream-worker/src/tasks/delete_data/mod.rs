//! The deletion Job of `spec.deletionPolicy: Delete`: deletes what the pipeline created, and nothing else.
//!
//! The operator's record lists it. An interrupted Job is started again, and what it deleted is missing then. PostgreSQL goes last,
//! because its transaction also deletes the claims.

mod selection;
mod stores;

use std::sync::Arc;

use userpipeline_api::{
    StoreObject,
    document::SchemaPipeline,
    report::{DeletionReport, cut_message},
};
use userpipeline_record::bookkeeping;
use userpipeline_stores::{
    Class, Secrets, StoreError,
    postgres::{self, Connection},
};

use self::selection::{Selection, add, claimed, select};
use super::{
    apply_schema::postgres_system,
    bookkeeping::missing_statements,
    runner::{self, Finished, TaskFiles},
};
use crate::{
    claims::{Holder, Kind, Resource},
    sinks::postgres::delete::delete_table,
};

/// Deletes, and leaves a [`DeletionReport`]; returns the exit code.
pub async fn run(files: &TaskFiles, cluster: String, recorded: Option<Vec<StoreObject>>) -> u8 {
    let read = |text: &str| SchemaPipeline::read(text).map_err(|e| e.to_string());
    runner::run(files, read, async |pipeline| {
        let finished = match delete(&pipeline, &files.secrets, cluster, recorded).await {
            Ok(outcome) => Finished::done(DeletionReport {
                reason: "Deleted".to_owned(),
                message: cut_message(&outcome.to_string()),
            }),
            Err(error) => Finished::failed(&error),
        };
        tracing::info!(reason = finished.report.reason, message = finished.report.message, "ended");
        finished
    })
    .await
}

/// What was deleted, and what was not.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    deleted: Vec<String>,
    kept: Vec<String>,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.deleted.as_slice() {
            [] => f.write_str("there was nothing to delete")?,
            deleted => write!(f, "deleted: {}", deleted.join(", "))?,
        }
        if !self.kept.is_empty() {
            write!(f, "; kept: {}", self.kept.join(", "))?;
        }
        Ok(())
    }
}

async fn delete(
    pipeline: &SchemaPipeline,
    secrets: &Secrets,
    cluster: String,
    recorded: Option<Vec<StoreObject>>,
) -> Result<Outcome, StoreError> {
    let holder = Holder {
        cluster,
        pipeline: pipeline.id.to_string(),
        created: Arc::default(),
    };
    let connection = Connection::new(&pipeline.postgres, secrets);
    let mut db = connection.connect("userpipeline-delete").await?;
    let explain = |what: &'static str| move |e: tokio_postgres::Error| postgres::explain(what, &e);
    let row = db.query_one("SELECT to_regclass('userpipeline.claims') IS NULL", &[]).await;
    let nothing: bool = row.map_err(explain("looking for userpipeline.claims"))?.get(0);
    let claims = if nothing { Vec::new() } else { holder.claims(&db).await? };
    let database = postgres_system(&db).await.unwrap_or_default();
    let recorded = recorded.unwrap_or_else(|| claimed(&claims, &database, pipeline));
    let Selection { delete, kept } = select(&recorded, &claims, &database, pipeline);
    let mut outcome = Outcome { deleted: Vec::new(), kept };
    let owns_group = delete.iter().any(|resource| resource.kind == Kind::Group);
    let (tables, mut others): (Vec<Resource>, Vec<Resource>) = delete.into_iter().partition(|resource| resource.kind == Kind::Table);
    // Groups before topics: librdkafka's members leave a deleted topic only with an error.
    others.sort_by_key(|resource| resource.kind != Kind::Group);
    let mut stores = stores::Stores::new(pipeline, secrets);
    let mut errors = Vec::new();
    for resource in others {
        match stores.delete(&resource).await {
            Ok(true) => {
                tracing::info!(%resource, "deleted");
                add(&mut outcome.deleted, resource.to_string());
            }
            Ok(false) => {
                let kept = format!("{resource} (it is at {}, where the spec does not lead)", resource.place);
                add(&mut outcome.kept, kept);
            }
            Err(error) => {
                tracing::error!(%resource, reason = error.reason, message = error.message, "not deleted");
                errors.push(error);
            }
        }
    }
    if let Some(error) = combined(errors) {
        return Err(error);
    }
    let transaction = db.transaction().await.map_err(explain("PostgreSQL"))?;
    forget(&transaction, pipeline, &holder, &tables, owns_group).await?;
    transaction.commit().await.map_err(explain("deleting the tables"))?;
    outcome.deleted.extend(tables.iter().map(Resource::to_string));
    Ok(outcome)
}

/// The tables, the bookkeeping, and every claim: all of it or nothing. The progress of a group belongs to the group.
async fn forget(
    transaction: &tokio_postgres::Transaction<'_>,
    pipeline: &SchemaPipeline,
    holder: &Holder,
    tables: &[Resource],
    owns_group: bool,
) -> Result<(), StoreError> {
    // An older version may have created only some of it.
    transaction
        .execute("SELECT pg_advisory_xact_lock($1)", &[&bookkeeping::LOCK])
        .await
        .map_err(|e| postgres::explain("waiting for a schema Job", &e))?;
    let failed = |e| postgres::explain("looking at the tables of schema `userpipeline`", &e);
    for statement in missing_statements(transaction).await.map_err(failed)? {
        transaction.batch_execute(statement).await.map_err(failed)?;
    }
    for table in tables {
        delete_table(transaction, table).await?;
    }
    let progress = owns_group.then_some(("DELETE FROM userpipeline.progress WHERE group_id = $1", &pipeline.group_id));
    for (statement, value) in [
        ("DELETE FROM userpipeline.rejects WHERE pipeline = $1", &holder.pipeline),
        ("DELETE FROM userpipeline.runs WHERE pipeline = $1", &holder.pipeline),
        ("DELETE FROM userpipeline.forgotten WHERE pipeline = $1", &holder.pipeline),
        ("DELETE FROM userpipeline.reject_totals WHERE pipeline = $1", &holder.pipeline),
        ("DELETE FROM userpipeline.source_cursors WHERE pipeline = $1", &holder.pipeline),
    ]
    .into_iter()
    .chain(progress)
    {
        transaction
            .execute(statement, &[value])
            .await
            .map_err(|e| postgres::explain("deleting the pipeline's bookkeeping", &e))?;
    }
    for claim in holder.claims(transaction).await? {
        holder.release(transaction, &claim.resource).await?;
    }
    Ok(())
}

/// One error for all: a configuration error first.
fn combined(errors: Vec<StoreError>) -> Option<StoreError> {
    let first = errors.iter().find(|e| e.class == Class::Configuration).or(errors.first())?.clone();
    let mut messages: Vec<String> = errors.into_iter().map(|e| e.message).collect();
    messages.dedup();
    Some(StoreError {
        message: messages.join("; "),
        ..first
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_reported_as_deleted_or_kept() {
        let done = Outcome {
            deleted: vec!["topic a".into(), "table b".into()],
            kept: vec!["table c (it was there before the pipeline)".into()],
        };
        assert_eq!(
            done.to_string(),
            "deleted: topic a, table b; kept: table c (it was there before the pipeline)"
        );
        assert_eq!(Outcome::default().to_string(), "there was nothing to delete");
    }
}

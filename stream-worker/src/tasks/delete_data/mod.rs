//! The deletion Job of `spec.deletionPolicy: Delete`: deletes what the pipeline created, and nothing else.
//!
//! `userpipeline.claims` lists it; a deleted resource loses its claim, so an interrupted Job is simply started again. PostgreSQL
//! goes last, because it has the claims.

mod stores;

use userpipeline_api::{
    document::SchemaPipeline,
    report::{DeletionReport, cut_message},
};
use userpipeline_record::bookkeeping;
use userpipeline_stores::{
    Class, Secrets, StoreError,
    postgres::{self, Connection},
};

use super::{
    bookkeeping::missing_statements,
    runner::{self, Finished, TaskFiles},
};
use crate::{
    claims::{Claim, Holder, Kind, Resource},
    sinks::postgres::delete::delete_table,
};

/// Deletes, and leaves a [`DeletionReport`]; returns the exit code.
pub async fn run(files: &TaskFiles, cluster: String) -> u8 {
    let read = |text: &str| SchemaPipeline::read(text).map_err(|e| e.to_string());
    runner::run(files, read, async |pipeline| {
        let finished = match delete(&pipeline, &files.secrets, cluster).await {
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

#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Delete,
    Keep(&'static str),
}

/// A group has nothing but the pipeline's offsets; everything else is deleted only where the pipeline created it.
fn fate(claim: &Claim, pipeline: &SchemaPipeline) -> Fate {
    use userpipeline_api::{TableManagement, TopicManagement};
    let tables = &pipeline.tables;
    let management = match claim.resource.kind {
        Kind::CassandraTable => tables.cassandra,
        Kind::Table if Some(&claim.resource.name) == pipeline.landing_table.as_ref() => tables.landing,
        Kind::Table => tables.postgres,
        _ => TableManagement::Direct,
    };
    match claim.resource.kind {
        _ if management == TableManagement::None => Fate::Keep("its management is None"),
        Kind::Group => Fate::Delete,
        Kind::Topic | Kind::Subject if pipeline.kafka.topic.management == TopicManagement::None => {
            Fate::Keep("spec.kafka.topic.management is None")
        }
        _ if !claim.created => Fate::Keep("it was there before the pipeline"),
        _ => Fate::Delete,
    }
}

async fn delete(pipeline: &SchemaPipeline, secrets: &Secrets, cluster: String) -> Result<Outcome, StoreError> {
    let holder = Holder {
        cluster,
        pipeline: pipeline.id.to_string(),
    };
    let connection = Connection::new(&pipeline.postgres, secrets);
    let mut db = connection.connect("userpipeline-delete").await?;
    let explain = |what: &'static str| move |e: tokio_postgres::Error| postgres::explain(what, &e);
    let row = db.query_one("SELECT to_regclass('userpipeline.claims') IS NULL", &[]).await;
    let nothing: bool = row.map_err(explain("looking for userpipeline.claims"))?.get(0);
    let mut outcome = Outcome::default();
    if nothing {
        return Ok(outcome);
    }
    let mut tables = Vec::new();
    let mut others = Vec::new();
    for claim in holder.claims(&db).await? {
        match fate(&claim, pipeline) {
            Fate::Keep(why) => add(&mut outcome.kept, format!("{} ({why})", claim.resource)),
            Fate::Delete if claim.resource.kind == Kind::Table => tables.push(claim.resource),
            Fate::Delete => others.push(claim.resource),
        }
    }
    // Groups before topics: librdkafka's members leave a deleted topic only with an error.
    others.sort_by_key(|resource| resource.kind != Kind::Group);
    let mut stores = stores::Stores::new(pipeline, secrets);
    let mut errors = Vec::new();
    for resource in others {
        match stores.delete(&resource).await {
            Ok(true) => {
                tracing::info!(%resource, "deleted");
                holder.release(&db, &resource).await?;
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
    forget(&transaction, pipeline, &holder, &tables).await?;
    transaction.commit().await.map_err(explain("deleting the tables"))?;
    outcome.deleted.extend(tables.iter().map(Resource::to_string));
    Ok(outcome)
}

/// A subject has a claim for each URL of its registry, and is reported once.
fn add(list: &mut Vec<String>, entry: String) {
    if !list.contains(&entry) {
        list.push(entry);
    }
}

/// The tables, the bookkeeping, and every claim: all of it or nothing.
async fn forget(
    transaction: &tokio_postgres::Transaction<'_>,
    pipeline: &SchemaPipeline,
    holder: &Holder,
    tables: &[Resource],
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
    for (statement, value) in [
        ("DELETE FROM userpipeline.rejects WHERE pipeline = $1", &holder.pipeline),
        ("DELETE FROM userpipeline.runs WHERE pipeline = $1", &holder.pipeline),
        ("DELETE FROM userpipeline.forgotten WHERE pipeline = $1", &holder.pipeline),
        ("DELETE FROM userpipeline.reject_totals WHERE pipeline = $1", &holder.pipeline),
        ("DELETE FROM userpipeline.source_cursors WHERE pipeline = $1", &holder.pipeline),
        ("DELETE FROM userpipeline.progress WHERE group_id = $1", &pipeline.group_id),
    ] {
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

    const PIPELINE: &str = r"
kind: UserPipeline
metadata: {name: users, namespace: demo}
spec:
  postgres: {host: postgres, database: users, credentialsSecretRef: {name: p}}
  kafka: {bootstrapServers: 'kafka:9092', topic: {management: MANAGEMENT}}
  schemaRegistry: {url: http://registry:8080}
  sinks: {postgres: {}}
";

    fn fate_of(kind: Kind, made: bool, management: &str) -> Fate {
        let pipeline = SchemaPipeline::read(&PIPELINE.replace("MANAGEMENT", management)).unwrap();
        let resource = Resource {
            kind,
            place: String::new(),
            name: "n".to_owned(),
        };
        fate(&Claim { resource, created: made }, &pipeline)
    }

    #[test]
    fn only_what_the_pipeline_created_is_deleted() {
        let table = [
            (Kind::Table, true, "Direct", true),
            (Kind::Table, false, "Direct", false),
            (Kind::CassandraTable, true, "Direct", true),
            (Kind::CassandraTable, false, "Direct", false),
            (Kind::Topic, true, "Direct", true),
            (Kind::Topic, false, "Direct", false),
            (Kind::Topic, true, "None", false),
            (Kind::Subject, true, "None", false),
            (Kind::Subject, true, "Direct", true),
            (Kind::Group, true, "None", true),
        ];
        for (kind, made, management, goes) in table {
            assert_eq!(
                fate_of(kind, made, management) == Fate::Delete,
                goes,
                "{kind:?} {made} {management}"
            );
        }
    }

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

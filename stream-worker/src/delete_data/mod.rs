//! The deletion Job of `spec.deletionPolicy: Delete`: deletes what the pipeline has made, and nothing that it has not.
//!
//! What that is stands in `userpipeline.claims`; whatever is deleted loses its claim, so a Job that is cut off is simply
//! started again. PostgreSQL goes last, because it remembers.

mod stores;

use std::path::Path;

use userpipeline_api::{
    document::SchemaPipeline,
    report::{DeletionReport, cut_message, exit},
};
use userpipeline_record::bookkeeping;
use userpipeline_stores::{Class, Secrets, StoreError, postgres};

use crate::{
    bookkeeping::statements,
    claims::{Claim, Holder, Kind, Thing},
};

/// Deletes, and leaves a [`DeletionReport`]; the result is the exit code.
pub async fn run(path: &Path, secrets: &Secrets, termination_log: &Path, cluster: String) -> u8 {
    let read = std::fs::read_to_string(path).map_err(|e| format!("the pipeline's file {} does not read: {e}", path.display()));
    let pipeline = read.and_then(|text| SchemaPipeline::read(&text).map_err(|e| e.to_string()));
    let deleted = match pipeline {
        Ok(pipeline) => delete(&pipeline, secrets, cluster).await,
        Err(message) => Err(StoreError::configuration("PipelineInvalid", message)),
    };
    let (reason, message, code) = match deleted {
        Ok(done) => ("Deleted", done.to_string(), exit::DONE),
        Err(StoreError { class, reason, message }) => {
            let code = match class {
                Class::Transient => exit::RETRY,
                Class::Configuration => exit::CONFIGURATION,
            };
            (reason, message, code)
        }
    };
    tracing::info!(reason, message, "ended");
    let report = DeletionReport {
        reason: reason.to_owned(),
        message: cut_message(&message),
    };
    let text = serde_json::to_string(&report).unwrap_or_default();
    if let Err(e) = std::fs::write(termination_log, text) {
        tracing::warn!(path = %termination_log.display(), error = %e, "the termination message is not written");
    }
    code
}

/// What became of what the pipeline had.
#[derive(Debug, Default, PartialEq, Eq)]
struct Done {
    deleted: Vec<String>,
    kept: Vec<String>,
}

impl std::fmt::Display for Done {
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

/// What is to be done with a thing.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Delete,
    Keep(&'static str),
}

/// A group is nothing but offsets in the pipeline's name; all else goes only where the pipeline has made it.
fn fate(claim: &Claim, pipeline: &SchemaPipeline) -> Fate {
    use userpipeline_api::{TableManagement, TopicManagement};
    let tables = &pipeline.tables;
    let management = match claim.thing.kind {
        Kind::CassandraTable => tables.cassandra,
        Kind::Table if Some(&claim.thing.name) == pipeline.landing_table.as_ref() => tables.landing,
        Kind::Table => tables.postgres,
        _ => TableManagement::Direct,
    };
    match claim.thing.kind {
        _ if management == TableManagement::None => Fate::Keep("its management is None"),
        Kind::Group => Fate::Delete,
        Kind::Topic | Kind::Subject if pipeline.kafka.topic.management == TopicManagement::None => {
            Fate::Keep("spec.kafka.topic.management is None")
        }
        _ if !claim.made => Fate::Keep("it was there before the pipeline"),
        _ => Fate::Delete,
    }
}

async fn delete(pipeline: &SchemaPipeline, secrets: &Secrets, cluster: String) -> Result<Done, StoreError> {
    let holder = Holder {
        cluster,
        pipeline: pipeline.id.to_string(),
    };
    let mut db = postgres::connect(&pipeline.postgres, secrets, "userpipeline-delete").await?;
    let explain = |what: &'static str| move |e: tokio_postgres::Error| postgres::explain(what, &e);
    let row = db.query_one("SELECT to_regclass('userpipeline.claims') IS NULL", &[]).await;
    let nothing: bool = row.map_err(explain("looking for userpipeline.claims"))?.get(0);
    let mut done = Done::default();
    if nothing {
        return Ok(done);
    }
    let mut tables = Vec::new();
    let mut others = Vec::new();
    for claim in holder.claims(&db).await? {
        match fate(&claim, pipeline) {
            Fate::Keep(why) => done.kept.push(format!("{} ({why})", claim.thing)),
            Fate::Delete if claim.thing.kind == Kind::Table => tables.push(claim.thing),
            Fate::Delete => others.push(claim.thing),
        }
    }
    let mut stores = stores::Stores::new(pipeline, secrets);
    let mut errors = Vec::new();
    // Groups before topics: librdkafka's members leave a topic that is gone only with an error.
    others.sort_by_key(|thing| thing.kind != Kind::Group);
    for thing in others {
        match stores.delete(&thing).await {
            Ok(true) => {
                tracing::info!(%thing, "deleted");
                holder.let_go(&db, &thing).await?;
                done.deleted.push(thing.to_string());
            }
            Ok(false) => done
                .kept
                .push(format!("{thing} (it is at {}, where the spec does not lead)", thing.place)),
            Err(error) => {
                tracing::error!(%thing, reason = error.reason, message = error.message, "not deleted");
                errors.push(error);
            }
        }
    }
    if let Some(error) = in_short(errors) {
        return Err(error);
    }
    let transaction = db.transaction().await.map_err(explain("PostgreSQL"))?;
    forget(&transaction, pipeline, &holder, &tables).await?;
    transaction.commit().await.map_err(explain("deleting the tables"))?;
    done.deleted.extend(tables.iter().map(Thing::to_string));
    Ok(done)
}

/// The tables, the bookkeeping, and every claim: all of it or nothing.
async fn forget(
    transaction: &tokio_postgres::Transaction<'_>,
    pipeline: &SchemaPipeline,
    holder: &Holder,
    tables: &[Thing],
) -> Result<(), StoreError> {
    // What an older version has made may lack some of it.
    transaction
        .execute("SELECT pg_advisory_xact_lock($1)", &[&bookkeeping::LOCK])
        .await
        .map_err(|e| postgres::explain("waiting for a schema Job", &e))?;
    let failed = |e| postgres::explain("looking at the tables of schema `userpipeline`", &e);
    for statement in statements(transaction).await.map_err(failed)? {
        transaction.batch_execute(statement).await.map_err(failed)?;
    }
    for table in tables {
        transaction
            .batch_execute(&format!(
                "DROP TABLE IF EXISTS {}",
                userpipeline_record::postgres::quote(&table.name)
            ))
            .await
            .map_err(|e| postgres::explain(&format!("deleting {table}"), &e))?;
        transaction
            .execute("DELETE FROM userpipeline.tombstones WHERE table_name = $1", &[&table.name])
            .await
            .map_err(|e| postgres::explain("deleting the versions of records that were deleted", &e))?;
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
        holder.let_go(transaction, &claim.thing).await?;
    }
    Ok(())
}

/// One error for all of them: one that somebody must mend speaks first.
fn in_short(errors: Vec<StoreError>) -> Option<StoreError> {
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
        let thing = Thing {
            kind,
            place: String::new(),
            name: "n".to_owned(),
        };
        fate(&Claim { thing, made }, &pipeline)
    }

    #[test]
    fn only_what_the_pipeline_has_made_is_deleted() {
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
    fn what_became_of_everything_is_told() {
        let done = Done {
            deleted: vec!["topic a".into(), "table b".into()],
            kept: vec!["table c (it was there before the pipeline)".into()],
        };
        assert_eq!(
            done.to_string(),
            "deleted: topic a, table b; kept: table c (it was there before the pipeline)"
        );
        assert_eq!(Done::default().to_string(), "there was nothing to delete");
    }
}

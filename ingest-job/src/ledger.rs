//! The ledger: a row per run, and the connection that may write it.
//!
//! The run's lock is a session lock of the connection that lands and marks rows: a process that loses the lock has lost the
//! connection, and cannot write. Each write also names the attempt, which excludes late writes of earlier attempts: after a
//! rotation, another process may take the lock while this one moves to a new connection.

use std::{mem, time::Duration};

use tokio::time::timeout;
use tokio_postgres::{Client, Row, Transaction, types::ToSql};
use userpipeline_api::RunOutcome;
use userpipeline_record::bookkeeping;
use userpipeline_stores::{
    Class, StoreError,
    error::{POSTGRES_FAILED, POSTGRES_UNREACHABLE, TABLE_MISMATCH},
    postgres::{Connection, KEEPALIVE, explain},
    wire::Fingerprint,
};

use crate::{
    outcome::{COMPLETED, Counts, Failure, Success},
    run_id::Run,
};

const APPLICATION: &str = "userpipeline-ingest";
/// How long a run waits until its end is recorded, at most twice.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);
/// Distinguishes these locks from those of other programs in the same database.
const LOCK_SEED: i64 = 0x7570_7275_6e00_0000;

const LOCK: &str = "SELECT pg_try_advisory_lock(hashtextextended($1, $2)) AS locked";
const UNLOCK: &str = "SELECT pg_advisory_unlock(hashtextextended($1, $2))";
/// Returns no row if the run succeeded before, or if a run of another Job failed and `$9` is true.
const OPEN: &str = "INSERT INTO userpipeline.runs AS r (pipeline, run_id, job, scheduled_at, kind, interval_start, interval_end, arguments, state) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'Running') \
     ON CONFLICT (pipeline, run_id) DO UPDATE SET state = 'Running', attempt = r.attempt + 1, job = excluded.job, finished_at = NULL, reason = NULL, \
     message = NULL, kind = excluded.kind, interval_start = excluded.interval_start, interval_end = excluded.interval_end, \
     arguments = excluded.arguments WHERE r.state <> 'Succeeded' AND NOT ($9 AND r.state = 'Failed' AND r.job <> excluded.job) RETURNING attempt, pages, items, bytes, landed, filtered, published, rejected";
const COUNTS: &str = "SELECT attempt, pages, items, bytes, landed, filtered, published, rejected, state FROM userpipeline.runs WHERE pipeline = $1 AND run_id = $2";
const ADVANCE: &str = "UPDATE userpipeline.runs SET pages = pages + $4, items = items + $5, bytes = bytes + $6, landed = landed + $7, published = published + $8, \
     rejected = rejected + $9, filtered = filtered + $10 WHERE pipeline = $1 AND run_id = $2 AND attempt = $3 AND state = 'Running'";
const CLOSE: &str = "UPDATE userpipeline.runs SET state = $4, reason = $5, message = $6, finished_at = now() \
     WHERE pipeline = $1 AND run_id = $2 AND attempt = $3 AND state = 'Running'";

/// Identifies an attempt.
#[derive(Clone, Debug)]
pub struct Key {
    /// `<namespace>/<name>`.
    pub pipeline: String,
    pub run_id: String,
    pub attempt: i32,
}

/// The row of this attempt, and the connection that holds the run's lock.
pub struct Ledger {
    postgres: Connection,
    pub client: Client,
    opened_with: Fingerprint,
    pub key: Key,
    /// Of earlier attempts.
    pub before: Counts,
    /// Of this attempt, as far as committed.
    pub counts: Counts,
}

pub enum Opened {
    /// This process has the run's lock.
    Run(Box<Ledger>),
    /// The run ended before, and is not repeated.
    AlreadyEnded(EndedRun),
    /// Another process has the run's lock.
    Locked {
        /// Record versions that the pipeline landed in total.
        total_fetched: i64,
    },
}

pub struct EndedRun {
    pub outcome: RunOutcome,
    pub counts: Counts,
    pub attempt: i32,
    /// Record versions that the pipeline landed in total.
    pub total_fetched: i64,
}

/// Opens a run's row under its lock.
pub async fn open(postgres: Connection, pipeline: &str, run: &Run, job: &str) -> Result<Opened, StoreError> {
    let (client, opened_with) = connect(&postgres).await?;
    if !lock(&client, pipeline, &run.id).await? {
        return Ok(Opened::Locked {
            total_fetched: total_landed(&client, pipeline).await?,
        });
    }
    let Some(row) = start_attempt(&client, pipeline, run, job).await? else {
        let row = client.query_one(COUNTS, &[&pipeline, &run.id]).await.map_err(|e| failed(&e))?;
        let succeeded = row.get::<_, &str>("state") == RunOutcome::Succeeded.as_str();
        return Ok(Opened::AlreadyEnded(EndedRun {
            outcome: if succeeded { RunOutcome::Succeeded } else { RunOutcome::Failed },
            counts: counts(&row),
            attempt: row.get("attempt"),
            total_fetched: total_landed(&client, pipeline).await?,
        }));
    };
    let key = Key {
        pipeline: pipeline.to_owned(),
        run_id: run.id.clone(),
        attempt: row.get("attempt"),
    };
    Ok(Opened::Run(Box::new(Ledger {
        before: counts(&row),
        key,
        counts: Counts::default(),
        postgres,
        client,
        opened_with,
    })))
}

async fn connect(postgres: &Connection) -> Result<(Client, Fingerprint), StoreError> {
    let (client, opened_with) = postgres.open(APPLICATION).await?;
    client.batch_execute(KEEPALIVE).await.map_err(|e| failed(&e))?;
    Ok((client, opened_with))
}

/// Returns whether the connection has the run's lock now.
async fn lock(client: &Client, pipeline: &str, run_id: &str) -> Result<bool, StoreError> {
    let row = client.query_one(LOCK, &[&lock_name(pipeline, run_id), &LOCK_SEED]).await;
    row.map(|row| row.get("locked")).map_err(|e| failed(&e))
}

fn lock_name(pipeline: &str, run_id: &str) -> String {
    format!("{pipeline} {run_id}")
}

async fn start_attempt(client: &Client, pipeline: &str, run: &Run, job: &str) -> Result<Option<Row>, StoreError> {
    // NULL for a pipeline without arguments.
    let arguments = (!run.arguments.is_empty()).then(|| serde_json::json!(run.arguments));
    let parameters: [&(dyn ToSql + Sync); 9] = [
        &pipeline,
        &run.id,
        &job,
        &run.scheduled_at,
        &run.kind.as_str(),
        &run.interval.map(|i| i.start),
        &run.interval.map(|i| i.end),
        &arguments,
        &run.skip_failed,
    ];
    client.query_opt(OPEN, &parameters).await.map_err(|e| failed(&e))
}

async fn total_landed(client: &Client, pipeline: &str) -> Result<i64, StoreError> {
    let row = client.query_one(bookkeeping::TOTAL_LANDED, &[&pipeline]).await;
    row.map(|row| row.get("landed")).map_err(|e| failed(&e))
}

fn counts(row: &Row) -> Counts {
    Counts {
        pages: row.get("pages"),
        items: row.get("items"),
        bytes: row.get("bytes"),
        landed: row.get("landed"),
        filtered: row.get("filtered"),
        published: row.get("published"),
        rejected: row.get("rejected"),
    }
}

fn failed(e: &tokio_postgres::Error) -> StoreError {
    bookkeeping_failed("the ledger userpipeline.runs", e)
}

/// Explains an error of a bookkeeping table. A missing table or column is transient: the schema Job of a newer version is about to
/// add it.
pub(crate) fn bookkeeping_failed(what: &str, e: &tokio_postgres::Error) -> StoreError {
    let mut error = explain_missing(explain(what, e));
    if error.reason == TABLE_MISMATCH {
        error.class = Class::Transient;
    }
    error
}

/// Only the schema Job creates tables.
pub(crate) fn explain_missing(mut e: StoreError) -> StoreError {
    if e.reason == TABLE_MISMATCH {
        e.message
            .push_str("; either the pipeline's schema Job has not been applied (see `SchemaReady`), or the table was changed by hand");
    }
    e
}

fn attempt_replaced(run_id: &str) -> StoreError {
    StoreError::transient(
        POSTGRES_FAILED,
        format!("run {run_id}: a newer attempt has replaced this one in userpipeline.runs"),
    )
}

/// Advances the attempt's counters, in the transaction of what they count.
pub async fn advance(transaction: &Transaction<'_>, key: &Key, by: Counts) -> Result<(), StoreError> {
    let Key { pipeline, run_id, attempt } = key;
    let rows = transaction
        .execute(
            ADVANCE,
            &[
                pipeline,
                run_id,
                attempt,
                &by.pages,
                &by.items,
                &by.bytes,
                &by.landed,
                &by.published,
                &by.rejected,
                &by.filtered,
            ],
        )
        .await
        .map_err(|e| failed(&e))?;
    if rows == 1 { Ok(()) } else { Err(attempt_replaced(run_id)) }
}

impl Ledger {
    /// Moves the run to a new connection if credentials or certificates have changed since it was opened. Returns the old
    /// connection then, for as long as its other locks are needed: what was prepared there has to be prepared again. While PostgreSQL
    /// refuses the new files, the run stays on the old connection, because Secret and server do not change in the same instant.
    pub async fn use_rotated_files(&mut self) -> Result<Option<Client>, StoreError> {
        if !self.postgres.wire().is_rotated(&self.opened_with) {
            return Ok(None);
        }
        let (client, opened_with) = match connect(&self.postgres).await {
            Ok(opened) => opened,
            Err(error) => {
                tracing::warn!(%error, "PostgreSQL's credentials or certificates have changed; the run keeps its connection for now");
                return Ok(None);
            }
        };
        let Key { pipeline, run_id, .. } = &self.key;
        let unlocked = self.client.query_one(UNLOCK, &[&lock_name(pipeline, run_id), &LOCK_SEED]).await;
        unlocked.map_err(|e| failed(&e))?;
        if !lock(&client, pipeline, run_id).await? {
            return Err(attempt_replaced(run_id));
        }
        tracing::info!("PostgreSQL's credentials or certificates have changed: the run has moved to a new connection");
        self.opened_with = opened_with;
        Ok(Some(mem::replace(&mut self.client, client)))
    }

    /// Records how the attempt ended. Returns the record versions that the pipeline landed in total. If the connection is lost, it
    /// opens a new one: the attempt's number protects newer attempts.
    pub async fn close(&self, result: &Result<Success, Failure>) -> Result<i64, StoreError> {
        if !self.client.is_closed()
            && let Ok(Ok(total)) = timeout(CLOSE_TIMEOUT, self.record_end(&self.client, result)).await
        {
            return Ok(total);
        }
        let again = async { self.record_end(&self.postgres.connect(APPLICATION).await?, result).await };
        timeout(CLOSE_TIMEOUT, again).await.unwrap_or_else(|_| {
            Err(StoreError::transient(
                POSTGRES_UNREACHABLE,
                "the ledger userpipeline.runs: PostgreSQL did not respond within 3 s",
            ))
        })
    }

    async fn record_end(&self, client: &Client, result: &Result<Success, Failure>) -> Result<i64, StoreError> {
        let Key { pipeline, run_id, attempt } = &self.key;
        let (state, reason, message) = match result {
            Ok(success) => (RunOutcome::Succeeded, COMPLETED, success.text()),
            Err(failure) => (RunOutcome::Failed, failure.reason, failure.message.clone()),
        };
        // PostgreSQL's text cannot contain NUL; the message of an error may.
        let message = message.replace('\0', "\u{fffd}");
        let rows = client
            .execute(CLOSE, &[pipeline, run_id, attempt, &state.as_str(), &reason, &message])
            .await
            .map_err(|e| failed(&e))?;
        if rows == 0 && result.is_ok() {
            return Err(attempt_replaced(run_id));
        }
        total_landed(client, pipeline).await
    }
}

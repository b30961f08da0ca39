//! The ledger: a row per run, and the connection that may write it.
//!
//! The run's lock is a session lock of the very connection that lands and marks: who has lost the lock has lost the
//! connection, and cannot write. Each write also names the attempt, so that nothing of an earlier one comes in late.

use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::{Client, Transaction};
use userpipeline_record::bookkeeping;
use userpipeline_stores::{
    Class, StoreError,
    error::{POSTGRES_FAILED, POSTGRES_UNREACHABLE, TABLE_MISMATCH},
    postgres::{Connection, explain},
};

use crate::{
    outcome::{Counts, Failure},
    run_id::Run,
};

const APPLICATION: &str = "userpipeline-ingest";
/// How long the end of a run waits for its mark, at most twice.
const CLOSING: Duration = Duration::from_secs(3);
/// Keeps this program's locks apart from those of others in the same database.
const LOCK_SEED: i64 = 0x7570_7275_6e00_0000;

const LOCK: &str = "SELECT pg_try_advisory_lock(hashtextextended($1, $2))";
/// A client that vanished without a word must not hold the run's lock for hours, as TCP's defaults would let it.
const KEEPALIVE: &str =
    "SET tcp_keepalives_idle = 15; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3; SET tcp_user_timeout = 30000";
/// Gives no row where the run has succeeded before, or, if that is asked for ($9), where another Job's has failed.
const OPEN: &str = "INSERT INTO userpipeline.runs AS r (pipeline, run_id, job, scheduled_at, kind, interval_start, interval_end, arguments, state) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'Running') \
     ON CONFLICT (pipeline, run_id) DO UPDATE SET state = 'Running', attempt = r.attempt + 1, job = excluded.job, finished_at = NULL, reason = NULL, \
     message = NULL, kind = excluded.kind, interval_start = excluded.interval_start, interval_end = excluded.interval_end, \
     arguments = excluded.arguments WHERE r.state <> 'Succeeded' AND NOT ($9 AND r.state = 'Failed' AND r.job <> excluded.job) RETURNING attempt, pages, items, bytes, landed, published, rejected";
const COUNTS: &str =
    "SELECT attempt, pages, items, bytes, landed, published, rejected, state FROM userpipeline.runs WHERE pipeline = $1 AND run_id = $2";
const ADVANCE: &str = "UPDATE userpipeline.runs SET pages = pages + $4, items = items + $5, bytes = bytes + $6, landed = landed + $7, published = published + $8, \
     rejected = rejected + $9 WHERE pipeline = $1 AND run_id = $2 AND attempt = $3 AND state = 'Running'";
const CLOSE: &str = "UPDATE userpipeline.runs SET state = $4, reason = $5, message = $6, finished_at = now() \
     WHERE pipeline = $1 AND run_id = $2 AND attempt = $3 AND state = 'Running'";

/// Names an attempt's row.
#[derive(Clone, Debug)]
pub struct Key {
    /// `<namespace>/<name>`.
    pub pipeline: String,
    /// The run.
    pub run_id: String,
    /// The attempt.
    pub attempt: i32,
}

/// The row of this attempt, and the connection that holds the run's lock.
pub struct Ledger {
    /// The connection.
    pub client: Client,
    /// The row.
    pub key: Key,
    /// What earlier attempts counted.
    pub before: Counts,
    /// What this attempt counted, as far as it is committed.
    pub counts: Counts,
}

/// What came of opening a run.
pub enum Opened {
    /// It is ours.
    Run(Box<Ledger>),
    /// It has been run before.
    Done {
        /// With success; else it has failed, and is not to be run again.
        succeeded: bool,
        /// What it counted.
        counts: Counts,
        /// How often it was tried.
        attempt: i32,
        /// Record versions ever landed by the pipeline.
        total_fetched: i64,
    },
    /// Another process is at it.
    Taken {
        /// Record versions ever landed by the pipeline.
        total_fetched: i64,
    },
}

/// Opens a run's row under its lock.
pub async fn open(postgres: &Connection, pipeline: &str, run: &Run, job: &str) -> Result<Opened, StoreError> {
    let client = postgres.connect(APPLICATION).await?;
    let failed = |e| bookkeeping_failed("the ledger userpipeline.runs", &e);
    client.batch_execute(KEEPALIVE).await.map_err(failed)?;
    let locked: bool = client
        .query_one(LOCK, &[&format!("{pipeline} {}", run.id), &LOCK_SEED])
        .await
        .map_err(failed)?
        .get(0);
    let total = async || {
        client
            .query_one(bookkeeping::TOTAL_LANDED, &[&pipeline])
            .await
            .map(|row| row.get(0))
            .map_err(failed)
    };
    if !locked {
        return Ok(Opened::Taken {
            total_fetched: total().await?,
        });
    }
    // A pipeline without arguments keeps none.
    let arguments = (!run.arguments.is_empty()).then(|| serde_json::json!(run.arguments));
    let opened = client
        .query_opt(
            OPEN,
            &[
                &pipeline,
                &run.id,
                &job,
                &run.scheduled_at,
                &run.kind.as_str(),
                &run.interval.map(|i| i.start),
                &run.interval.map(|i| i.end),
                &arguments,
                &run.skip_failed,
            ],
        )
        .await
        .map_err(failed)?;
    let Some(row) = opened else {
        let row = client.query_one(COUNTS, &[&pipeline, &run.id]).await.map_err(failed)?;
        return Ok(Opened::Done {
            succeeded: row.get::<_, &str>(7) == "Succeeded",
            counts: counts(&row),
            attempt: row.get(0),
            total_fetched: total().await?,
        });
    };
    let key = Key {
        pipeline: pipeline.to_owned(),
        run_id: run.id.clone(),
        attempt: row.get(0),
    };
    Ok(Opened::Run(Box::new(Ledger {
        before: counts(&row),
        key,
        counts: Counts::default(),
        client,
    })))
}

fn counts(row: &tokio_postgres::Row) -> Counts {
    Counts {
        pages: row.get(1),
        items: row.get(2),
        bytes: row.get(3),
        landed: row.get(4),
        published: row.get(5),
        rejected: row.get(6),
    }
}

/// What an error of the bookkeeping means. Where it lacks something, a newer version's schema Job is about to add that: it passes.
pub(crate) fn bookkeeping_failed(what: &str, e: &tokio_postgres::Error) -> StoreError {
    let mut error = explain_missing(explain(what, e));
    if error.reason == TABLE_MISMATCH {
        error.class = Class::Transient;
    }
    error
}

/// A table that is not there is not made here: the schema Job makes it.
pub(crate) fn explain_missing(mut e: StoreError) -> StoreError {
    if e.reason == TABLE_MISMATCH {
        e.message
            .push_str("; the schema Job of this pipeline has not been applied, or a table was changed by hand");
    }
    e
}

/// Advances the attempt's counters, in the transaction that does what they count.
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
            ],
        )
        .await
        .map_err(|e| bookkeeping_failed("the ledger userpipeline.runs", &e))?;
    if rows == 1 {
        return Ok(());
    }
    Err(StoreError::transient(
        POSTGRES_FAILED,
        format!("run {run_id} is no longer this attempt's in userpipeline.runs: another attempt has taken it"),
    ))
}

impl Ledger {
    /// Marks how the attempt ended, and gives the record versions ever landed by the pipeline. Where the connection is
    /// lost, a new one marks: the attempt's number keeps it from marking another's.
    pub async fn close(&self, result: &Result<String, Failure>, postgres: &Connection) -> Result<i64, StoreError> {
        if !self.client.is_closed()
            && let Ok(Ok(total)) = timeout(CLOSING, self.mark(&self.client, result)).await
        {
            return Ok(total);
        }
        let again = async { self.mark(&postgres.connect(APPLICATION).await?, result).await };
        timeout(CLOSING, again).await.unwrap_or_else(|_| {
            Err(StoreError::transient(
                POSTGRES_UNREACHABLE,
                "the ledger userpipeline.runs: PostgreSQL does not answer",
            ))
        })
    }

    async fn mark(&self, client: &Client, result: &Result<String, Failure>) -> Result<i64, StoreError> {
        let Key { pipeline, run_id, attempt } = &self.key;
        let (state, reason, message) = match result {
            Ok(message) => ("Succeeded", crate::outcome::COMPLETED, message),
            Err(failure) => ("Failed", failure.reason, &failure.message),
        };
        let failed = |e| bookkeeping_failed("the ledger userpipeline.runs", &e);
        // Text of PostgreSQL holds no NUL; an error's text may.
        let message = message.replace('\0', "\u{fffd}");
        let rows = client
            .execute(CLOSE, &[pipeline, run_id, attempt, &state, &reason, &message])
            .await
            .map_err(failed)?;
        if rows == 0 && result.is_ok() {
            return Err(StoreError::transient(
                POSTGRES_FAILED,
                format!("run {run_id} is no longer this attempt's in userpipeline.runs: another attempt has taken it"),
            ));
        }
        client
            .query_one(bookkeeping::TOTAL_LANDED, &[pipeline])
            .await
            .map(|row| row.get(0))
            .map_err(failed)
    }
}

//! Deletes what was kept long enough: landed records, the ledger's runs, rejects, tombstones. In small batches, so that nobody
//! waits for a lock, and by one worker at a time.

use std::time::{Duration, Instant};

use tokio::time::{Interval, MissedTickBehavior, interval, sleep};
use tokio_postgres::{Client, Error, types::ToSql};
use userpipeline_api::{Retention, TableManagement, document::WorkerPipeline};
use userpipeline_record::{RecordSchema, bookkeeping, postgres::quote};
use userpipeline_stores::{StoreError, postgres};

use crate::{shared::Shared, write::postgres::answered};

/// It is looked for what is old enough this often.
const EVERY: Duration = Duration::from_secs(60);
/// So many rows go at once.
const BATCH: i64 = 1000;
/// Others come in between.
const PAUSE: Duration = Duration::from_millis(20);
/// What is left after this time is left to the next look.
const LONGEST: Duration = Duration::from_secs(30);
/// Keep these locks apart from others: of the worker that deletes, and of the one that makes the index.
const SWEEP_SEED: i64 = 0x7570_7265_7400_0000;
const INDEX_SEED: i64 = SWEEP_SEED + 1;

/// What is kept for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    Landing,
    Runs,
    Rejects,
    Tombstones,
}

/// What a pipeline keeps for a time, and for how many seconds.
fn declared(retention: &Retention) -> Vec<(Kept, f64)> {
    let all = [
        (Kept::Runs, &retention.runs),
        (Kept::Rejects, &retention.rejects),
        (Kept::Tombstones, &retention.tombstones),
        // The last one: it may take long, as long as its index is not there.
        (Kept::Landing, &retention.landing),
    ];
    let seconds = |time: &userpipeline_api::Duration| Duration::from(*time).as_secs_f64();
    all.into_iter()
        .filter_map(|(kept, time)| Some((kept, seconds(time.as_ref()?))))
        .collect()
}

/// Looks again and again, as long as anything is kept for a time only.
pub async fn keep(shared: &Shared) {
    let declared = declared(&shared.pipeline.retention);
    if declared.is_empty() {
        return;
    }
    let sweeping = async {
        let mut ticks = every();
        loop {
            ticks.tick().await;
            if let Err(error) = sweep(shared, &declared).await {
                tracing::warn!(reason = error.reason, message = error.message, "what is old enough was not deleted");
            }
        }
    };
    // Of a large table it takes long, and the others need not wait for it.
    let indexing = async {
        let ours = shared.pipeline.landing_management == TableManagement::Direct;
        let Some(landing) = shared
            .pipeline
            .landing_table
            .as_deref()
            .filter(|_| ours && shared.pipeline.retention.landing.is_some())
        else {
            return;
        };
        let mut ticks = every();
        loop {
            ticks.tick().await;
            match index_landing(shared, landing).await {
                Ok(true) => return,
                Ok(false) => {}
                // Without it, what is old is found all the same, if slowly.
                Err(error) => tracing::warn!(
                    reason = error.reason,
                    message = error.message,
                    "old landed records are found slowly"
                ),
            }
        }
    };
    tokio::join!(sweeping, indexing);
}

fn every() -> Interval {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// A connection that holds a lock of the pipeline, and lets go of it when it ends; none if another worker has it.
async fn alone(shared: &Shared, seed: i64) -> Result<Option<Client>, StoreError> {
    let client = postgres::connect(
        &shared.pipeline.postgres,
        &shared.secrets,
        &format!("{} retention", shared.instance),
    )
    .await?;
    let statement = "SELECT pg_try_advisory_lock(hashtextextended($1, $2))";
    let id = shared.pipeline.id.to_string();
    let row = answered(client.query_one(statement, &[&id, &seed]))
        .await?
        .map_err(|e| failed(&e))?;
    Ok(row.get::<_, bool>(0).then_some(client))
}

fn failed(e: &Error) -> StoreError {
    postgres::explain("deleting what was kept long enough (spec.retention)", e)
}

async fn sweep(shared: &Shared, declared: &[(Kept, f64)]) -> Result<(), StoreError> {
    let Some(client) = alone(shared, SWEEP_SEED).await? else {
        return Ok(());
    };
    let until = Instant::now() + LONGEST;
    // What cannot be deleted keeps nothing else.
    let mut wrong = Ok(());
    for (kept, seconds) in declared {
        let mut deleted = 0;
        loop {
            let rows = match answered(batch(&client, &shared.pipeline, *kept, *seconds))
                .await?
                .map_err(|e| failed(&e))
            {
                Ok(rows) => rows,
                Err(error) => {
                    wrong = Err(error);
                    break;
                }
            };
            deleted += rows;
            shared.metrics.expired(kept.label(), rows);
            if rows < BATCH.unsigned_abs() || Instant::now() > until {
                break;
            }
            sleep(PAUSE).await;
        }
        if deleted > 0 {
            tracing::info!(what = kept.label(), deleted, "kept long enough");
        }
    }
    wrong
}

/// Of a large table the index takes as long as it takes. Nobody waits for it but changes of that table; and should this worker end, so
/// does the statement.
const PATIENCE: &str = "SET statement_timeout = 0; \
     SELECT set_config(name, '10s', false) FROM pg_settings WHERE name = 'client_connection_check_interval'";

/// Makes the index without which each look for old rows would read the whole table; again where making it broke off. Whether it is there.
async fn index_landing(shared: &Shared, landing: &str) -> Result<bool, StoreError> {
    let Some(client) = alone(shared, INDEX_SEED).await? else {
        return Ok(false);
    };
    let explain = |e: Error| postgres::explain("indexing the landing table by age (spec.retention.landing)", &e);
    let (name, statement) = RecordSchema::landing_age_index(landing);
    let index = quote(&name);
    let state = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass($1)";
    let found = answered(client.query_opt(state, &[&index])).await?.map_err(explain)?;
    let broken = match found.map(|row| row.get::<_, bool>(0)) {
        Some(true) => return Ok(true),
        Some(false) => true,
        None => false,
    };
    tracing::info!(landing, "the landing table is indexed by age");
    client.batch_execute(PATIENCE).await.map_err(explain)?;
    if broken {
        let statement = format!("DROP INDEX CONCURRENTLY IF EXISTS {index}");
        client.batch_execute(&statement).await.map_err(explain)?;
    }
    client.batch_execute(&statement).await.map_err(explain)?;
    Ok(true)
}

impl Kept {
    const fn label(self) -> &'static str {
        match self {
            Self::Landing => "landing",
            Self::Runs => "runs",
            Self::Rejects => "rejects",
            Self::Tombstones => "tombstones",
        }
    }
}

/// Deletes a batch; gives how many rows that was.
async fn batch(client: &Client, pipeline: &WorkerPipeline, kept: Kept, seconds: f64) -> Result<u64, Error> {
    let id = pipeline.id.to_string();
    match kept {
        Kept::Landing => {
            let Some(table) = &pipeline.landing_table else { return Ok(0) };
            let statement = RecordSchema::landing_expire(table);
            client.execute(&statement, &[&seconds, &BATCH]).await
        }
        Kept::Runs => {
            let row = client.query_one(bookkeeping::EXPIRE_RUNS, &[&id, &seconds, &BATCH]).await?;
            Ok(row.get::<_, i64>(0).unsigned_abs())
        }
        Kept::Rejects => client.execute(bookkeeping::EXPIRE_REJECTS, &[&id, &seconds, &BATCH]).await,
        Kept::Tombstones => {
            let Some(table) = &pipeline.postgres_table else { return Ok(0) };
            let values: [&(dyn ToSql + Sync); 3] = [table, &seconds, &BATCH];
            client.execute(bookkeeping::EXPIRE_TOMBSTONES, &values).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_declared_is_deleted() {
        assert_eq!(declared(&Retention::default()), []);
        let retention = Retention {
            landing: Some(Duration::from_secs(3600).into()),
            tombstones: Some(Duration::from_millis(1500).into()),
            ..Retention::default()
        };
        assert_eq!(declared(&retention), [(Kept::Tombstones, 1.5), (Kept::Landing, 3600.0)]);
    }
}

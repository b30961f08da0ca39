//! Deletes what was kept long enough: landed records, the ledger's runs, rejects, tombstones. In small batches, so that nobody
//! waits for a lock, and by one worker at a time.

use std::time::{Duration, Instant};

use tokio::time::{interval, sleep};
use tokio_postgres::{Client, Error, types::ToSql};
use userpipeline_api::{Retention, TableManagement, document::WorkerPipeline};
use userpipeline_record::{RecordSchema, bookkeeping, postgres::quote};
use userpipeline_stores::{StoreError, postgres};

use crate::shared::Shared;

/// It is looked for what is old enough this often.
const EVERY: Duration = Duration::from_secs(60);
/// So many rows go at once.
const BATCH: i64 = 1000;
/// Others come in between.
const PAUSE: Duration = Duration::from_millis(20);
/// What is left after this time is left to the next look.
const LONGEST: Duration = Duration::from_secs(30);
/// Keeps these locks apart from others.
const LOCK_SEED: i64 = 0x7570_7265_7400_0000;

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
        // The last one: it may have to wait for its index.
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
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = sweep(shared, &declared).await {
            tracing::warn!(reason = error.reason, message = error.message, "what is old enough was not deleted");
        }
    }
}

async fn sweep(shared: &Shared, declared: &[(Kept, f64)]) -> Result<(), StoreError> {
    let pipeline = &shared.pipeline;
    let failed = |e: Error| postgres::explain("deleting what was kept long enough (spec.retention)", &e);
    let client = postgres::connect(&pipeline.postgres, &shared.secrets, &format!("{} retention", shared.instance)).await?;
    // The lock goes with the connection.
    let alone = client
        .query_one(
            "SELECT pg_try_advisory_lock(hashtextextended($1, $2))",
            &[&pipeline.id.to_string(), &LOCK_SEED],
        )
        .await
        .map_err(failed)?
        .get::<_, bool>(0);
    if !alone {
        return Ok(());
    }
    let until = Instant::now() + LONGEST;
    for (kept, seconds) in declared {
        if *kept == Kept::Landing && pipeline.landing_management == TableManagement::Direct {
            // Without it, what is old is found all the same, if slowly.
            if let Err(e) = index_landing(&client, pipeline).await {
                let error = postgres::explain("indexing the landing table by age (spec.retention.landing)", &e);
                tracing::warn!(
                    reason = error.reason,
                    message = error.message,
                    "old landed records are found slowly"
                );
            }
        }
        let mut deleted = 0;
        loop {
            let rows = batch(&client, pipeline, *kept, *seconds).await.map_err(failed)?;
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
    Ok(())
}

/// Of a large table the index takes as long as it takes. Nobody waits for it but changes of that table; and should this worker end, so
/// does the statement.
const PATIENCE: &str = "SET statement_timeout = 0; \
     SELECT set_config(name, '10s', false) FROM pg_settings WHERE name = 'client_connection_check_interval'";

/// Makes the index without which each look for old rows would read the whole table; again where making it broke off.
async fn index_landing(client: &Client, pipeline: &WorkerPipeline) -> Result<(), Error> {
    let Some(landing) = &pipeline.landing_table else { return Ok(()) };
    let (name, statement) = RecordSchema::landing_age_index(landing);
    let index = quote(&name);
    let state = "SELECT indisvalid, EXISTS (SELECT FROM pg_stat_progress_create_index WHERE index_relid = indexrelid) FROM pg_index \
         WHERE indexrelid = to_regclass($1)";
    let found = client.query_opt(state, &[&index]).await?;
    let broken = match found.map(|row| (row.get::<_, bool>(0), row.get::<_, bool>(1))) {
        // It is there, or somebody is at it.
        Some((true, _) | (_, true)) => return Ok(()),
        Some((false, false)) => true,
        None => false,
    };
    tracing::info!(landing, "the landing table is indexed by age");
    client.batch_execute(PATIENCE).await?;
    let made = async {
        if broken {
            client.batch_execute(&format!("DROP INDEX CONCURRENTLY IF EXISTS {index}")).await?;
        }
        client.batch_execute(&statement).await
    }
    .await;
    // Whatever came of it: the deletes that follow are not to take as long as they take.
    client.batch_execute("RESET statement_timeout").await?;
    made
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

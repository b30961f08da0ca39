//! Deletes expired rows: landed records, the ledger's runs, rejects, tombstones, windows of aggregates. In small batches, so that nothing waits for
//! their locks, and by one worker at a time.

use std::time::{Duration, Instant};

use tokio::time::{Interval, MissedTickBehavior, interval, sleep};
use tokio_postgres::{Client, Error, types::ToSql};
use userpipeline_api::{TableManagement, document::WorkerPipeline};
use userpipeline_record::{RecordSchema, aggregate::Aggregate, bookkeeping, postgres::quote};
use userpipeline_stores::{
    StoreError,
    postgres::{self, answered},
};

use crate::{
    context::WorkerContext,
    sinks::{self, Expiry},
};

const EVERY: Duration = Duration::from_secs(60);
/// Rows that are deleted at a time.
const BATCH: i64 = 1000;
/// Between batches, for other statements.
const PAUSE: Duration = Duration::from_millis(20);
/// What is left after this time waits for the next sweep.
const LONGEST: Duration = Duration::from_secs(30);
/// The namespaces of the advisory locks: of the worker that deletes, and of the one that creates the index.
const SWEEP_SEED: i64 = 0x7570_7265_7400_0000;
const INDEX_SEED: i64 = SWEEP_SEED + 1;

/// The rows that the pipeline keeps for a limited time.
fn declared(pipeline: &WorkerPipeline, schema: &RecordSchema, aggregates: &[Aggregate]) -> Vec<Expiry> {
    let retention = &pipeline.retention;
    let seconds = |limit: userpipeline_api::Duration| Duration::from(limit).as_secs_f64();
    let id = pipeline.id.to_string();
    let runs = retention.runs.map(|limit| Expiry {
        rows: "runs",
        announcements: Vec::new(),
        seconds: seconds(limit),
        statement: bookkeeping::EXPIRE_RUNS.to_owned(),
        key: Some(id.clone()),
        returns_count: true,
    });
    let rejects = retention.rejects.map(|limit| Expiry {
        rows: "rejects",
        announcements: Vec::new(),
        seconds: seconds(limit),
        statement: bookkeeping::EXPIRE_REJECTS.to_owned(),
        key: Some(id.clone()),
        returns_count: false,
    });
    let of_sinks = sinks::ALL.iter().flat_map(|sink| sink.retention(pipeline, aggregates));
    // Last, because it may be slow as long as its index does not exist.
    let landing = retention.landing.zip(pipeline.landing_table.as_ref()).map(|(limit, table)| Expiry {
        rows: "landing",
        announcements: schema.landing_announce_expiry(table),
        seconds: seconds(limit),
        statement: schema.landing_expire(table),
        key: None,
        returns_count: true,
    });
    runs.into_iter().chain(rejects).chain(of_sinks).chain(landing).collect()
}

/// Deletes expired rows periodically, if the pipeline declares any.
pub async fn run(context: &WorkerContext) {
    let declared = declared(&context.pipeline, &context.schema, &context.aggregates);
    if declared.is_empty() {
        return;
    }
    let sweeping = async {
        let mut ticks = every();
        loop {
            ticks.tick().await;
            if let Err(error) = sweep(context, &declared).await {
                tracing::warn!(reason = error.reason, message = error.message, "expired rows were not deleted");
            }
        }
    };
    // The index of a large table takes long, and must not delay the deletion of other rows.
    tokio::join!(sweeping, index(context));
}

/// Indexes the landing table by age, if this pipeline manages it and its rows expire.
async fn index(context: &WorkerContext) {
    let pipeline = &context.pipeline;
    let managed = pipeline.landing_management == TableManagement::Direct && pipeline.retention.landing.is_some();
    let Some(landing) = pipeline.landing_table.as_deref().filter(|_| managed) else {
        return;
    };
    let mut ticks = every();
    loop {
        ticks.tick().await;
        match index_landing(context, landing).await {
            Ok(true) => return,
            Ok(false) => {}
            // Without it, old rows are found all the same, if slowly.
            Err(error) => tracing::warn!(
                reason = error.reason,
                message = error.message,
                "old landed records are found slowly"
            ),
        }
    }
}

fn every() -> Interval {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// A connection that holds a lock of the pipeline until it is closed; none if another worker has it.
async fn alone(context: &WorkerContext, seed: i64) -> Result<Option<Client>, StoreError> {
    let client = context.postgres.connect(&format!("{} retention", context.instance)).await?;
    let statement = "SELECT pg_try_advisory_lock(hashtextextended($1, $2))";
    let id = context.pipeline.id.to_string();
    let row = answered(client.query_one(statement, &[&id, &seed]))
        .await?
        .map_err(|e| failed(&e))?;
    Ok(row.get::<_, bool>(0).then_some(client))
}

fn failed(e: &Error) -> StoreError {
    postgres::explain("deleting what was kept long enough (spec.retention)", e)
}

async fn sweep(context: &WorkerContext, declared: &[Expiry]) -> Result<(), StoreError> {
    let Some(client) = alone(context, SWEEP_SEED).await? else {
        return Ok(());
    };
    let until = Instant::now() + LONGEST;
    // An error does not keep other rows.
    let mut wrong = Ok(());
    for expiry in declared {
        match is_announced(&client, expiry).await {
            Ok(true) => {}
            Ok(false) => continue,
            Err(error) => {
                wrong = Err(error);
                continue;
            }
        }
        let mut deleted = 0;
        loop {
            let rows = match answered(expire(&client, expiry)).await?.map_err(|e| failed(&e)) {
                Ok(rows) => rows,
                Err(error) => {
                    wrong = Err(error);
                    break;
                }
            };
            deleted += rows;
            context.metrics.expired(expiry.rows, rows);
            if rows < BATCH.unsigned_abs() || Instant::now() > until {
                break;
            }
            sleep(PAUSE).await;
        }
        if deleted > 0 {
            tracing::info!(what = expiry.rows, deleted, "expired rows deleted");
        }
    }
    wrong
}

/// Whether rows may be deleted: it was known before this sweep that they expire.
async fn is_announced(client: &Client, expiry: &Expiry) -> Result<bool, StoreError> {
    for statement in &expiry.announcements {
        let new = answered(client.execute(statement, &[])).await?.map_err(|e| failed(&e))?;
        if new > 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Indexing a large table has no time limit. Only schema changes of that table wait for it; when this worker ends, so does the
/// statement.
const NO_TIMEOUT: &str = "SET statement_timeout = 0; \
     SELECT set_config(name, '10s', false) FROM pg_settings WHERE name = 'client_connection_check_interval'";

/// Creates the index without which each sweep would read the whole table; again where its creation was interrupted. Whether it
/// exists.
async fn index_landing(context: &WorkerContext, landing: &str) -> Result<bool, StoreError> {
    let Some(client) = alone(context, INDEX_SEED).await? else {
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
    client.batch_execute(NO_TIMEOUT).await.map_err(explain)?;
    if broken {
        let statement = format!("DROP INDEX CONCURRENTLY IF EXISTS {index}");
        client.batch_execute(&statement).await.map_err(explain)?;
    }
    client.batch_execute(&statement).await.map_err(explain)?;
    Ok(true)
}

/// Deletes up to a batch of rows, and returns their number.
async fn expire(client: &Client, expiry: &Expiry) -> Result<u64, Error> {
    let mut values: Vec<&(dyn ToSql + Sync)> = expiry.key.iter().map(|key| key as _).collect();
    values.push(&expiry.seconds);
    values.push(&BATCH);
    if expiry.returns_count {
        let row = client.query_one(&expiry.statement, &values).await?;
        return Ok(row.get::<_, i64>(0).unsigned_abs());
    }
    client.execute(&expiry.statement, &values).await
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIPELINE: &str = r"
kind: UserPipeline
metadata: {name: users, namespace: demo}
spec:
  postgres: {host: postgres, database: users, credentialsSecretRef: {name: p}}
  kafka: {bootstrapServers: 'kafka:9092'}
  schemaRegistry: {url: http://registry:8080}
  sinks: {postgres: {}}
";

    #[test]
    fn only_declared_rows_are_deleted() {
        let mut pipeline = WorkerPipeline::read(PIPELINE).unwrap();
        let schema = RecordSchema::user();
        assert_eq!(declared(&pipeline, &schema, &[]), []);
        pipeline.retention.landing = Some(Duration::from_secs(3600).into());
        pipeline.retention.tombstones = Some(Duration::from_millis(1500).into());
        let found: Vec<_> = declared(&pipeline, &schema, &[])
            .iter()
            .map(|expiry| (expiry.rows, expiry.seconds))
            .collect();
        assert_eq!(found, [("tombstones", 1.5), ("landing", 3600.0)]);
    }
}

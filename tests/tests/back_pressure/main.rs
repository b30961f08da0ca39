//! Workers under more load than they can process: one test at a time.

mod memory;
mod workers;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use userpipeline_api::names;
use userpipeline_tests::{World, eventually, stores, topic_source::from_topic, world::SOON};

/// Each test needs the whole machine.
static ALONE: Mutex<()> = Mutex::const_new(());

const PARTITIONS: i32 = 6;
/// Longer than a worker takes to fill its buffers.
const STILL: Duration = Duration::from_secs(3);

/// A pipeline for JSON readings on a topic, with a worker of 64 MiB.
fn pipeline(world: &World) -> Value {
    let mut pipeline = from_topic(world.pipeline(), PARTITIONS);
    small(&mut pipeline);
    pipeline
}

/// Limits the worker to 64 MiB.
fn small(pipeline: &mut Value) {
    pipeline["spec"]["pods"] =
        json!({"workers": {"resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "64Mi"}}}});
}

fn reading(id: usize, name: &str) -> Vec<u8> {
    json!({"id": format!("reading {id}"), "revision": 1, "name": name})
        .to_string()
        .into_bytes()
}

/// Produces readings to one partition or to all of them.
async fn write(world: &World, partition: Option<i32>, ids: std::ops::Range<usize>, name: &str) -> Result<()> {
    let topic = names::topic(&world.id());
    let ids: Vec<usize> = ids.collect();
    for some in ids.chunks(20_000) {
        let messages = some.iter().map(|id| (partition, id.to_string(), Some(reading(*id, name)), None));
        stores::produce_to(&topic, messages.collect()).await?;
    }
    Ok(())
}

/// Locks the table in PostgreSQL until the connection is dropped.
async fn hold_sink(world: &World) -> Result<tokio_postgres::Client> {
    let db = stores::postgres(&world.client).await?;
    let table = names::postgres_table(&world.id());
    db.batch_execute(&format!("BEGIN; LOCK TABLE \"{table}\" IN SHARE ROW EXCLUSIVE MODE"))
        .await?;
    Ok(db)
}

async fn worker(world: &World) -> Result<Pod> {
    let pods = world.pods("worker").await?;
    pods.into_iter()
        .find(|pod| pod.metadata.deletion_timestamp.is_none())
        .context("a worker")
}

/// Waits until a worker fetches nothing more because its buffers are full.
async fn takes_no_more(world: &World, pod: &Pod) -> Result<f64> {
    let mut last = (0.0, Instant::now());
    eventually("the worker to take no more", SOON, async || {
        let taken = world.metric(pod, "records_total", "").await?;
        if (taken - last.0).abs() > 0.5 {
            last = (taken, Instant::now());
        }
        let still = taken > 0.0 && last.1.elapsed() > STILL;
        Ok(if still { Ok(taken) } else { Err(format!("{taken} taken")) })
    })
    .await
}

async fn stored(world: &World, expected: usize, within: Duration) -> Result<()> {
    let db = stores::postgres(&world.client).await?;
    let statement = format!(
        "SELECT coalesce(sum(stored), 0)::bigint FROM userpipeline.progress WHERE group_id = '{}'",
        names::group_id(&world.id())
    );
    eventually("everything stored", within, async || {
        let n = usize::try_from(stores::number(&db, &statement).await?)?;
        Ok(if n == expected { Ok(()) } else { Err(format!("{n} of {expected}")) })
    })
    .await
}

async fn rows_in_both_stores(world: &World) -> Result<(i64, usize)> {
    let (db, id) = (stores::postgres(&world.client).await?, world.id());
    let in_postgres = stores::number(&db, &format!("SELECT count(*) FROM \"{}\"", names::postgres_table(&id))).await?;
    let session = stores::cassandra(&world.client).await?;
    let statement = format!("SELECT id FROM \"{}\".\"{}\"", names::keyspace(&id), names::cassandra_table(&id));
    let mut pages = session.query_iter(statement, &[]).await?.rows_stream::<(String,)>()?;
    let mut in_cassandra = 0;
    while let Some(row) = pages.next().await {
        row?;
        in_cassandra += 1;
    }
    Ok((in_postgres, in_cassandra))
}

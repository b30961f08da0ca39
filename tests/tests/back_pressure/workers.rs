//! Partitions do not block each other, and new or terminated workers do not disturb the others.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use kube::{
    ResourceExt,
    api::{DeleteParams, WatchEvent, WatchParams},
};
use serde_json::json;
use userpipeline_api::names;
use userpipeline_tests::{World, eventually, stores, world::SOON};

use crate::{ALONE, PARTITIONS, hold_sink, pipeline, rows_in_both_stores, stored, takes_no_more, worker, write};

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_full_of_poison_does_not_block_the_others() -> Result<()> {
    const POISON: usize = 10_000;
    const GOOD: usize = 100;
    let _alone = ALONE.lock().await;
    // Given a table with a constraint on a name
    let world = World::new("starved").await?;
    let mut pipeline = pipeline(&world);
    pipeline["spec"]["deadLetter"] = json!({"maxRatio": 1});
    world.apply(&pipeline).await?;
    world.ready().await?;
    let (db, table) = (stores::postgres(&world.client).await?, names::postgres_table(&world.id()));
    db.batch_execute(&format!("ALTER TABLE \"{table}\" ADD CONSTRAINT polite CHECK (name <> 'rude')"))
        .await?;

    // When one partition is full of records that violate it, each of which must be found within its batch, and then the other
    // partitions receive records
    write(&world, Some(0), 0..POISON, "rude").await?;
    let each = GOOD / usize::try_from(PARTITIONS - 1)?;
    for partition in 1..PARTITIONS {
        let from = POISON + each * usize::try_from(partition)?;
        write(&world, Some(partition), from..from + each, "kind").await?;
    }

    // Then those are stored while most of the poison is still pending
    let group = names::group_id(&world.id());
    let progress = format!(
        "SELECT coalesce(sum(stored), 0)::bigint, coalesce(sum(dead_lettered), 0)::bigint FROM userpipeline.progress WHERE group_id = '{group}'"
    );
    let dead = eventually("the good records to be stored", SOON, async || {
        let row = db.query_one(&progress, &[]).await?;
        let (stored, dead): (i64, i64) = (row.get(0), row.get(1));
        Ok(if usize::try_from(stored)? == GOOD {
            Ok(dead)
        } else {
            Err(format!("{stored} stored, {dead} dead letters"))
        })
    })
    .await?;
    println!("{dead} dead letters when all good records were stored");
    ensure!(
        usize::try_from(dead)? < POISON / 2,
        "{dead} of {POISON} were dead letters when the good records were stored"
    );

    // And all of the poison becomes dead letters in the end
    eventually("the poison to be gone", Duration::from_secs(300), async || {
        let dead: i64 = db.query_one(&progress, &[]).await?.get(1);
        Ok(if usize::try_from(dead)? == POISON {
            Ok(())
        } else {
            Err(format!("{dead} of {POISON}"))
        })
    })
    .await?;
    // Cassandra has no constraint and is written concurrently, so it may hold some of them.
    let (in_postgres, in_cassandra) = rows_in_both_stores(&world).await?;
    assert_eq!(usize::try_from(in_postgres)?, GOOD);
    ensure!(in_cassandra >= GOOD, "{in_cassandra} rows are in Cassandra");
    world.clean_up().await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_partition_of_a_backlog_makes_progress() -> Result<()> {
    // One more than the number of partitions whose share of messages fills a batch.
    const PARTITIONS: i32 = 21;
    const EACH: usize = 3000;
    let _alone = ALONE.lock().await;
    // Given a blocked store, and a backlog on each of many partitions
    let world = World::new("many").await?;
    let mut pipeline = pipeline(&world);
    pipeline["spec"]["kafka"]["topic"]["partitions"] = json!(PARTITIONS);
    world.apply(&pipeline).await?;
    world.ready().await?;
    let pod = worker(&world).await?;
    let sink_lock = hold_sink(&world).await?;
    for partition in 0..PARTITIONS {
        let from = EACH * usize::try_from(partition)?;
        write(&world, Some(partition), from..from + EACH, "a name of some length").await?;
    }
    takes_no_more(&world, &pod).await?;

    // When the store is released, Then each partition makes progress while most of the backlog is still pending
    drop(sink_lock);
    let db = stores::postgres(&world.client).await?;
    let progress =
        "SELECT coalesce(min(stored), 0)::bigint, coalesce(sum(stored), 0)::bigint FROM userpipeline.progress WHERE group_id = $1";
    let stored_of_all = eventually("each partition to get on", SOON, async || {
        let row = db.query_one(progress, &[&names::group_id(&world.id())]).await?;
        let (least, all): (i64, i64) = (row.get(0), row.get(1));
        Ok(if least > 0 {
            Ok(all)
        } else {
            Err(format!("{all} stored, and of some partition none"))
        })
    })
    .await?;
    let backlog = EACH * usize::try_from(PARTITIONS)?;
    println!("{stored_of_all} of {backlog} are stored when each partition has got on");
    ensure!(
        usize::try_from(stored_of_all)? < backlog / 2,
        "{stored_of_all} of {backlog} were stored before each partition got on"
    );
    stored(&world, backlog, SOON).await?;
    assert_eq!(rows_in_both_stores(&world).await?, (i64::try_from(backlog)?, backlog));
    world.clean_up().await
}

/// The owner of each partition: the token of its assignment.
async fn owners(world: &World) -> Result<BTreeMap<i32, uuid::Uuid>> {
    let db = stores::postgres(&world.client).await?;
    let statement = "SELECT partition, owner FROM userpipeline.progress WHERE group_id = $1";
    let rows = db.query(statement, &[&names::group_id(&world.id())]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_worker_takes_half_of_the_partitions_and_the_others_do_not_move() -> Result<()> {
    const ROWS: usize = 30_000;
    let _alone = ALONE.lock().await;
    // Given a worker with a lag that owns all partitions
    let world = World::new("cooperative").await?;
    let mut pipeline = pipeline(&world);
    world.apply(&pipeline).await?;
    world.ready().await?;
    write(&world, None, 0..ROWS, "a name of some length").await?;
    let before = eventually("every partition to be owned", SOON, async || {
        let owners = owners(&world).await?;
        let all = i32::try_from(owners.len()) == Ok(PARTITIONS);
        Ok(if all { Ok(owners) } else { Err(format!("{owners:?}")) })
    })
    .await?;

    // When a second one starts
    pipeline["spec"]["workers"] = json!({"replicas": 2});
    world.apply(&pipeline).await?;
    let after = eventually("partitions to move", SOON, async || {
        let owners = owners(&world).await?;
        let moved = owners
            .iter()
            .filter(|(partition, owner)| before.get(partition) != Some(owner))
            .count();
        Ok(if moved >= 3 {
            Ok(owners)
        } else {
            Err(format!("{moved} have moved"))
        })
    })
    .await?;

    // Then half of the partitions never moved: they belong to the same assignment as before
    stored(&world, ROWS, SOON).await?;
    world.ready().await?;
    let stayed = owners(&world)
        .await?
        .iter()
        .filter(|(partition, owner)| before.get(partition) == Some(owner))
        .count();
    assert_eq!(stayed, 3, "before {before:?}, after {after:?}");
    assert_eq!(rows_in_both_stores(&world).await?, (i64::try_from(ROWS)?, ROWS));
    world.clean_up().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_terminated_under_load_stores_its_batches_and_exits_in_time() -> Result<()> {
    const ROWS: usize = 60_000;
    let _alone = ALONE.lock().await;
    // Given a worker with a large lag
    let world = World::new("stopping").await?;
    world.apply(&pipeline(&world)).await?;
    world.ready().await?;
    let pod = worker(&world).await?;
    let sink_lock = hold_sink(&world).await?;
    write(&world, None, 0..ROWS, "a name of some length").await?;
    takes_no_more(&world, &pod).await?;
    drop(sink_lock);
    eventually("a batch in flight", SOON, async || {
        let (stored, busy) = (
            world.metric(&pod, "stored_total", "").await?,
            world.metric(&pod, "in_flight", "").await?,
        );
        Ok(if stored > 0.0 && busy > 0.0 {
            Ok(())
        } else {
            Err(format!("{stored} stored, {busy} in flight"))
        })
    })
    .await?;

    // When it is terminated, as in a rollout
    let only = WatchParams::default()
        .fields(&format!("metadata.name={}", pod.name_any()))
        .timeout(120);
    let pods = world.api::<Pod>();
    let current = pods.get(&pod.name_any()).await?;
    let mut events = pods
        .watch(&only, current.resource_version().as_deref().unwrap_or("0"))
        .await?
        .boxed();
    pods.delete(&pod.name_any(), &DeleteParams::default()).await?;
    let terminated = Instant::now();
    let mut end: Option<ContainerStateTerminated> = None;
    while let Some(event) = events.next().await {
        match event? {
            WatchEvent::Modified(modified) => {
                let mut statuses = modified.status.into_iter().flat_map(|s| s.container_statuses.unwrap_or_default());
                end = end.or_else(|| statuses.find_map(|c| c.state?.terminated));
            }
            WatchEvent::Deleted(_) => break,
            WatchEvent::Error(error) => anyhow::bail!("{error:?}"),
            _ => {}
        }
    }

    // Then it exits with 0 and within the grace period, while messages were still pending
    let end = end.context("how the worker ended")?;
    println!("ended with {} after at most {:.1?}", end.exit_code, terminated.elapsed());
    assert_eq!((end.exit_code, end.signal), (0, None), "{end:?}");
    let db = stores::postgres(&world.client).await?;
    let count = format!("SELECT count(*) FROM \"{}\"", names::postgres_table(&world.id()));
    let rows = stores::number(&db, &count).await?;
    println!("{rows} rows are stored");
    ensure!(usize::try_from(rows)? < ROWS, "nothing was left to do");

    // And another worker stores the rest, and each offset is counted once
    stored(&world, ROWS, Duration::from_secs(180)).await?;
    assert_eq!(rows_in_both_stores(&world).await?, (i64::try_from(ROWS)?, ROWS));
    world.clean_up().await
}

//! Memory is bounded for any backlog and any size of records.
//!
//! `BACKLOG_ROWS` is the number of small records: 100,000 by default, a million in `make test-long`.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};
use userpipeline_api::names;
use userpipeline_tests::{World, eventually, exact::node::Node, random::SplitMix64, stores, test_source::TestSource, world::SOON};

use crate::{ALONE, hold_sink, pipeline, rows_in_both_stores, small, stored, takes_no_more, worker, write};

/// The peak and the current private memory of a worker in MiB, for information only. The limit of the container is the assertion.
async fn memory(pod: &Pod) -> Result<String> {
    let node = Node::enter()?;
    let pids = node.processes(&pod.uid().context("a uid")?, "stream-worker").await?;
    let pid = pids.first().context("a process")?;
    let status = node.run(&format!("grep -E 'VmHWM|RssAnon' /proc/{pid}/status")).await?;
    Ok(status.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The pod is the same, and its container has not restarted.
async fn never_restarted(world: &World, before: &Pod) -> Result<()> {
    let now = worker(world).await?;
    let restarts: i32 = now
        .status
        .iter()
        .flat_map(|s| s.container_statuses.iter().flatten())
        .map(|c| c.restart_count)
        .sum();
    ensure!(
        now.uid() == before.uid() && restarts == 0,
        "{} has restarted {restarts} times",
        now.name_any()
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_with_64_mib_processes_a_backlog_of_small_records_without_a_restart() -> Result<()> {
    let _alone = ALONE.lock().await;
    let rows: usize = std::env::var("BACKLOG_ROWS").map_or(Ok(100_000), |text| text.parse())?;
    // Given a worker with 64 MiB, and a blocked store
    let world = World::new("backlog").await?;
    world.apply(&pipeline(&world)).await?;
    world.ready().await?;
    let pod = worker(&world).await?;
    let sink_lock = hold_sink(&world).await?;

    // When a backlog grows, Then the worker fetches a part of it and pauses
    write(&world, None, 0..rows, "a name of some length").await?;
    let taken = takes_no_more(&world, &pod).await?;
    ensure!(taken < 10_000.0, "{taken} messages are in a worker that cannot store any");
    println!("while the store stands still: {taken} messages taken, {}", memory(&pod).await?);

    // And when the store is released, Then the worker stores everything without a restart
    drop(sink_lock);
    let began = Instant::now();
    stored(&world, rows, Duration::from_secs(60 + rows as u64 / 500)).await?;
    println!("{rows} records in {:.1?}: {}", began.elapsed(), memory(&pod).await?);
    never_restarted(&world, &pod).await?;
    assert_eq!(rows_in_both_stores(&world).await?, (i64::try_from(rows)?, rows));
    world.clean_up().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_with_64_mib_processes_a_backlog_of_the_largest_records() -> Result<()> {
    const RECORDS: usize = 160;
    const PAGE: usize = 4;
    /// About the largest record that fits on a managed topic: more than a mebibyte.
    const SIZE: usize = 1_079 << 10;
    let _alone = ALONE.lock().await;
    // Given a worker with 64 MiB, a blocked store, and six partitions of records that cannot be compressed
    let world = World::new("mebibytes").await?;
    let source = TestSource::start(&world.client).await?;
    let field = |name: &str| json!({"name": name, "type": "string", "from": format!("/{name}")});
    let mut pipeline = world.pipeline_of(&json!({"key": ["id"], "fields": [field("id"), field("name")]}), &source.url());
    pipeline["spec"]["source"]["http"]["runDuration"] = json!("2m");
    pipeline["spec"]["kafka"]["topic"]["partitions"] = json!(6);
    small(&mut pipeline);
    world.apply(&pipeline).await?;
    world.ready().await?;
    let pod = worker(&world).await?;
    let sink_lock = hold_sink(&world).await?;
    let mut random = SplitMix64::new(7);
    let ids: Vec<String> = (0..RECORDS).map(|n| n.to_string()).collect();
    let mut expected = BTreeMap::new();
    for page in ids.chunks(PAGE) {
        let items: Vec<Value> = page.iter().map(|id| json!({"id": id, "name": random.text(SIZE)})).collect();
        for item in &items {
            expected.insert(
                item["id"].to_string().replace('"', ""),
                item["name"].as_str().unwrap_or_default().to_owned(),
            );
        }
        source.serve(&items);
    }

    // When they are fetched, landed and published, and the buffers of the worker are full
    world.run("first").await?;
    let taken = takes_no_more(&world, &pod).await?;
    ensure!(taken < 20.0, "{taken} large messages are in a worker that cannot store any");
    println!("while the store stands still: {taken} messages taken, {}", memory(&pod).await?);
    drop(sink_lock);

    // Then it stores everything without a restart, and both stores hold each record as served
    stored(&world, RECORDS, SOON).await?;
    println!("{RECORDS} records of {SIZE} bytes: {}", memory(&pod).await?);
    never_restarted(&world, &pod).await?;
    let (db, id) = (stores::postgres(&world.client).await?, world.id());
    let session = stores::cassandra(&world.client).await?;
    let in_postgres = format!("SELECT name FROM \"{}\" WHERE id = $1", names::postgres_table(&id));
    let in_cassandra = format!(
        "SELECT name FROM \"{}\".\"{}\" WHERE id = ?",
        names::keyspace(&id),
        names::cassandra_table(&id)
    );
    for (key, name) in &expected {
        let found: String = db.query_one(&in_postgres, &[key]).await?.get(0);
        assert!(found == *name, "record {key} in PostgreSQL");
        let found = session.query_unpaged(in_cassandra.as_str(), (key,)).await?.into_rows_result()?;
        let (found,) = found.single_row::<(String,)>()?;
        assert!(found == *name, "record {key} in Cassandra");
    }
    world.clean_up().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_with_64_mib_reads_messages_of_many_values_and_refuses_too_many() -> Result<()> {
    const EACH: usize = 12;
    const SIZE: usize = 900 << 10;
    let _alone = ALONE.lock().await;
    // Given a worker with 64 MiB, whose record has expressions
    let world = World::new("dense").await?;
    let mut pipeline = pipeline(&world);
    pipeline["spec"]["record"]["deleteWhen"] = json!("has(item.gone)");
    pipeline["spec"]["deadLetter"] = json!({"maxRatio": 1});
    world.apply(&pipeline).await?;
    world.ready().await?;
    let pod = worker(&world).await?;

    // When messages of nearly a mebibyte arrive, with tens of thousands of small objects, and with hundreds of thousands of empty arrays
    let message = |id: usize, part: &str| {
        let more = vec![part; SIZE / (part.len() + 1)].join(",");
        let text = format!("{{\"id\":\"reading {id}\",\"revision\":1,\"name\":\"dense\",\"more\":[{more}]}}");
        (None, id.to_string(), Some(text.into_bytes()), None)
    };
    for id in 0..EACH {
        let messages = vec![message(id, "{\"id\":123456,\"v\":1.5}"), message(EACH + id, "[[]]")];
        stores::produce_to(&names::topic(&world.id()), messages).await?;
    }

    // Then the former are stored, the latter are dead letters with a reason, and the worker has not restarted
    stored(&world, EACH, SOON).await?;
    let letters = names::dead_letter_topic(&names::topic(&world.id()));
    let letters = eventually("the dead letters", SOON, async || {
        let letters = stores::messages(&letters).await?;
        Ok(if letters.len() == EACH {
            Ok(letters)
        } else {
            Err(format!("{} dead letters", letters.len()))
        })
    })
    .await?;
    for letter in &letters {
        let (class, why) = (&letter.headers["dlq.error.class"], &letter.headers["dlq.error.message"]);
        assert!(class == "JsonInvalid" && why.contains("MiB of memory"), "{class}: {why}");
    }
    println!("{EACH} messages of many values: {}", memory(&pod).await?);
    never_restarted(&world, &pod).await?;
    assert_eq!(rows_in_both_stores(&world).await?, (i64::try_from(EACH)?, EACH));
    world.clean_up().await
}

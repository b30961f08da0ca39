//! Passwords, certificates and authorities change while records flow.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::ResourceExt;
use rdkafka::{
    consumer::{BaseConsumer, Consumer},
    groups::GroupInfo,
};
use serde_json::{Value, json};
use tokio::{sync::oneshot, time::sleep};
use userpipeline_api::names;
use userpipeline_tests::{World, eventually, stores, test_source::TestSource, world::SOON};

use crate::accounts::{Accounts, WIRES, expiry_seconds};

/// Records of a page. A run requests one page a second.
const PAGE: usize = 500;
/// Longer than two rotations take to arrive.
const PAGES: usize = 500;
/// Kubernetes updates mounted files within about two minutes.
const ARRIVES: Duration = Duration::from_secs(240);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
const WORKERS: usize = 2;
/// The first one created the accounts.
const ROTATIONS: [i8; 2] = [2, 3];

fn items(page: usize) -> Vec<Value> {
    let item = |n| json!({"id": format!("item {n}"), "name": format!("name of {n}")});
    (page * PAGE..(page + 1) * PAGE).map(item).collect()
}

fn pipeline(world: &World, source: &TestSource) -> Value {
    let field = |name: &str| json!({"name": name, "type": "string", "from": format!("/{name}")});
    let mut pipeline = world.pipeline_of(&json!({"key": ["id"], "fields": [field("id"), field("name")]}), &source.url());
    let spec = &mut pipeline["spec"];
    spec["source"]["http"]["runDuration"] = json!("1200s");
    spec["source"]["http"]["maxRecordsPerRun"] = json!(PAGE * (PAGES + 1));
    spec["schedule"]["activeDeadlineSeconds"] = json!(1500);
    spec["workers"] = json!({"replicas": WORKERS});
    Accounts::apply_to(&mut pipeline);
    pipeline
}

/// The longest time without a stored record, from the first one until the end is signalled.
async fn longest_pause(world: World, mut end: oneshot::Receiver<()>) -> Result<Duration> {
    let db = stores::postgres(&world.client).await?;
    let group = names::group_id(&world.id());
    let statement = format!("SELECT coalesce(sum(stored), 0)::bigint FROM userpipeline.progress WHERE group_id = '{group}'");
    let (mut stored, mut since, mut longest) = (0, None, Duration::ZERO);
    while end.try_recv() == Err(oneshot::error::TryRecvError::Empty) {
        let now = stores::number(&db, &statement).await?;
        if now > stored {
            stored = now;
            since = Some(Instant::now());
        }
        longest = longest.max(since.map_or(Duration::ZERO, |since: Instant| since.elapsed()));
        sleep(Duration::from_millis(100)).await;
    }
    Ok(longest)
}

/// The ids of the consumer group's members.
async fn members(world: &World) -> Result<BTreeSet<String>> {
    let (config, group) = (stores::kafka_config().await?, names::group_id(&world.id()));
    tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer = config.create()?;
        let groups = consumer.fetch_group_list(Some(&group), Duration::from_secs(10))?;
        let members = groups.groups().iter().flat_map(GroupInfo::members);
        Ok(members.map(|member| member.id().to_owned()).collect())
    })
    .await?
}

/// Uids and restarts of the pods of a part of the pipeline.
async fn pods(world: &World, component: &str) -> Result<BTreeSet<(String, i32)>> {
    let restarts = |pod: &Pod| -> i32 {
        let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
        statuses.map(|container| container.restart_count).sum()
    };
    let pods = world.pods(component).await?;
    Ok(pods.iter().map(|pod| (pod.uid().unwrap_or_default(), restarts(pod))).collect())
}

/// Waits until runs and workers use what a rotation has changed.
async fn arrived(world: &World, accounts: &Accounts, rotation: i8, members_before: &BTreeSet<String>, rotated_at: &str) -> Result<()> {
    let expected = expiry_seconds(rotation)?;
    eventually("the rotated files to be used", ARRIVES, async || {
        for pod in world.pods("worker").await? {
            for (wire, _) in WIRES {
                let expires = world.metric(&pod, "certificate_not_after_seconds", &format!("\"{wire}\"")).await?;
                #[allow(clippy::cast_precision_loss)] // seconds
                if (expires - expected as f64).abs() > 0.5 {
                    return Ok(Err(format!("{} has a certificate for {wire} until {expires}", pod.name_any())));
                }
            }
        }
        let old = accounts.connections_before(rotated_at).await?;
        let members = members(world).await?;
        Ok(if old > 0 {
            Err(format!("{old} connections to PostgreSQL are older"))
        } else if members.len() != WORKERS || !members.is_disjoint(members_before) {
            Err(format!("the members of the group are {members:?}"))
        } else {
            Ok(())
        })
    })
    .await
}

/// PostgreSQL's clock, in its notation.
async fn postgres_time(world: &World) -> Result<String> {
    let db = stores::postgres(&world.client).await?;
    Ok(db.query_one("SELECT clock_timestamp()::text", &[]).await?.get(0))
}

/// The number of rows in the landing table and in both sinks.
async fn rows(world: &World) -> Result<[usize; 3]> {
    let (db, id) = (stores::postgres(&world.client).await?, world.id());
    let count = async |table: String| -> Result<usize> {
        Ok(usize::try_from(
            stores::number(&db, &format!("SELECT count(*) FROM \"{table}\"")).await?,
        )?)
    };
    let session = stores::cassandra(&world.client).await?;
    let statement = format!("SELECT id FROM \"{}\".\"{}\"", names::keyspace(&id), names::cassandra_table(&id));
    let mut stream = session.query_iter(statement, &[]).await?.rows_stream::<(String,)>()?;
    let mut in_cassandra = 0;
    while let Some(row) = stream.next().await {
        row?;
        in_cassandra += 1;
    }
    Ok([
        count(names::landing_table(&id)).await?,
        count(names::postgres_table(&id)).await?,
        in_cassandra,
    ])
}

/// Every record is landed, on the topic, and in both sinks, once.
async fn stored_once(world: &World, total: usize) -> Result<()> {
    world.drained(i64::try_from(total)?).await?;
    let totals = world.get().await?.status.unwrap_or_default().totals.unwrap_or_default();
    ensure!(
        (usize::try_from(totals.fetched)?, usize::try_from(totals.stored)?) == (total, total),
        "{totals:?} of {total} records"
    );
    let rows = rows(world).await?;
    ensure!(rows == [total; 3], "{rows:?} rows of {total} records");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make test-encryption"]
async fn everything_is_rotated_at_500_rows_a_second_without_a_restart_a_loss_or_a_long_pause() -> Result<()> {
    // Given a pipeline with accounts of its own, and a run that lands 500 records a second
    let world = World::new("rotation").await?;
    let accounts = Accounts::create(&world).await?;
    let source = TestSource::start(&world.client).await?;
    for page in 0..PAGES {
        source.serve(&items(page));
    }
    world.apply(&pipeline(&world, &source)).await?;
    world.ready().await?;
    let workers = pods(&world, "worker").await?;
    let (end, ended) = oneshot::channel();
    let pause = tokio::spawn(longest_pause(world.clone(), ended));
    world.start_run("steady").await?;
    eventually("the first records", SOON, async || {
        let stored = world.get().await?.status.unwrap_or_default().totals.unwrap_or_default().stored;
        Ok(if stored > 0 { Ok(()) } else { Err(format!("{stored} stored")) })
    })
    .await?;

    // When all passwords, certificates and bundles change, Then runs and workers use them while the run continues
    for rotation in ROTATIONS {
        let (members, started) = (members(&world).await?, Instant::now());
        accounts.rotate(rotation).await?;
        let rotated_at = postgres_time(&world).await?;
        arrived(&world, &accounts, rotation, &members, &rotated_at).await?;
        println!("rotation {rotation} arrived after {:.0?}", started.elapsed());
        let status = world.api::<Job>().get("steady").await?.status.unwrap_or_default();
        ensure!(
            status.active == Some(1),
            "the run ended too early, so it proves nothing: {status:?}"
        );
    }

    // Then the run completes in its first attempt, and no pod was restarted
    eventually("the run to complete", Duration::from_secs(600), async || {
        let status = world.api::<Job>().get("steady").await?.status.unwrap_or_default();
        Ok(if status.succeeded == Some(1) {
            Ok(())
        } else {
            Err(format!("{status:?}"))
        })
    })
    .await?;
    let _ = end.send(());
    let pause = pause.await??;
    let job = world.api::<Job>().get("steady").await?.status.context("the Job's status")?;
    ensure!(job.failed.unwrap_or_default() == 0, "attempts of the run failed: {job:?}");
    ensure!(
        pods(&world, "worker").await? == workers && workers.iter().all(|(_, restarts)| *restarts == 0),
        "workers were replaced or restarted: {workers:?}, {:?}",
        pods(&world, "worker").await?
    );

    // And every record is stored once
    let total = PAGE * PAGES;
    stored_once(&world, total).await?;
    println!("{total} records, longest pause {pause:.1?}");
    ensure!(pause < LONGEST_PAUSE, "no record was stored for {pause:?}");

    // And a pod that starts now connects too
    source.serve(&items(PAGES));
    world.run("after").await?;
    world.drained(i64::try_from(total + PAGE)?).await?;
    accounts.clean_up().await?;
    world.clean_up().await
}

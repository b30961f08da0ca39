//! Passwords, certificates and authorities change while records flow.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use tokio::{sync::oneshot, time::sleep};
use userpipeline_api::names;
use userpipeline_tests::{World, eventually, stores, test_source::TestSource};

use crate::{
    accounts::{Accounts, WIRES, expiry_seconds},
    load::{self, PAGE, WORKERS, items, members, pods, stored_once},
};

/// Longer than two rotations take to arrive.
const PAGES: usize = 500;
/// Kubernetes updates mounted files within about two minutes.
const ARRIVES: Duration = Duration::from_secs(240);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// The first one created the accounts.
const ROTATIONS: [i8; 2] = [2, 3];

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
    let mut pipeline = load::pipeline(&world, &source, PAGES);
    Accounts::apply_to(&mut pipeline);
    world.apply(&pipeline).await?;
    world.ready().await?;
    let workers = pods(&world, "worker").await?;
    let (end, ended) = oneshot::channel();
    let pause = tokio::spawn(longest_pause(world.clone(), ended));
    load::start_run(&world, "steady").await?;

    // When all passwords, certificates and bundles change, Then runs and workers use them while the run continues
    for rotation in ROTATIONS {
        let (members, started) = (members(&world).await?, Instant::now());
        accounts.rotate(rotation).await?;
        let rotated_at = postgres_time(&world).await?;
        arrived(&world, &accounts, rotation, &members, &rotated_at).await?;
        println!("rotation {rotation} arrived after {:.0?}", started.elapsed());
        load::assert_active(&world, "steady").await?;
    }

    // Then the run completes in its first attempt, and no pod was restarted
    load::completed(&world, "steady").await?;
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

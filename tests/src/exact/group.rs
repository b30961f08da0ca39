//! Workers that come, go, or stand still under load, and how it is seen that their partitions changed hands.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt, api::LogParams};
use tokio::time::sleep;
use uuid::Uuid;

use super::{Scene, evidence, scene::WORKERS, services, strike::WINDOW};
use crate::{dice::Dice, eventually, world::SOON};

/// A worker that was stopped is given up by its group after 20 seconds.
const GIVEN_UP: Duration = Duration::from_secs(40);
/// The others hear of it at their next heartbeat, within three seconds.
const TAKEN_OVER: Duration = Duration::from_secs(8);
/// And once nothing of it holds them up any more: those that waited for it try again after a while.
const TAKEN_OVER_AFTER_ALL: Duration = Duration::from_secs(20);
/// A worker that thaws finds out at its next batch.
const FENCED: Duration = Duration::from_secs(5);

/// One worker, four, and as many as before.
pub async fn scaled(scene: &Scene) -> Result<Option<String>> {
    // What changes hands from here on does so for this, and not for an earlier fault.
    settled(scene, WORKERS).await?;
    let mut steps = Vec::new();
    // All of them, even where one has missed: the next try begins with as many workers as this one.
    for replicas in [1, 4, WORKERS] {
        steps.push(scaled_to(scene, replicas).await?);
    }
    let seen: Option<Vec<String>> = steps.into_iter().collect();
    Ok(seen.map(|steps| steps.join(", ")))
}

/// Nothing, if the partitions that changed hands did so without a backlog.
async fn scaled_to(scene: &Scene, replicas: usize) -> Result<Option<String>> {
    // Each partition has its owner.
    scene.recovered().await?;
    let (dam, _) = scene.dam_up().await?;
    let before = scene.owners().await?;
    scene.ask_for(replicas).await?;
    // Those that go are told to, or those that come have started: they cannot join before the dam opens.
    let told = async || Ok((scene.running("worker").await?.len() == replicas).then_some(()));
    let told = scene.catch(WINDOW, told).await?;
    dam.open().await;
    let mut lag = 0;
    let changed = async || {
        // Looked at first, so it is what there was when nothing, or the first partition, had changed hands.
        lag = scene.lag().await?;
        Ok(Some(moved(&before, &scene.owners().await?)).filter(|moved| *moved > 0))
    };
    let changed = scene.catch(WINDOW, changed).await?;
    settled(scene, replicas).await?;
    let moved = moved(&before, &scene.owners().await?);
    let hit = told.is_some() && changed.is_some() && lag > 0;
    Ok(hit.then(|| format!("{replicas} with lag {lag}, {moved} partitions moved")))
}

/// Waits until so many workers are ready, and the group has as many members.
async fn settled(scene: &Scene, workers: usize) -> Result<()> {
    eventually(&format!("{workers} workers in the group"), SOON, async || {
        let ready = scene.running("worker").await?.iter().filter(|pod| services::is_ready(pod)).count();
        let members = scene.members().await?;
        Ok(if (ready, members) == (workers, workers) {
            Ok(())
        } else {
            Err(format!("{ready} ready, {members} members"))
        })
    })
    .await
}

/// How many partitions have another owner.
fn moved(before: &BTreeMap<i32, Uuid>, now: &BTreeMap<i32, Uuid>) -> usize {
    now.iter().filter(|(partition, owner)| before.get(partition) != Some(owner)).count()
}

/// The partitions that a worker says it has.
pub async fn owned(scene: &Scene, worker: &Pod) -> Result<Vec<i32>> {
    eventually("the worker's partitions", SOON, async || {
        let report = evidence::status(scene, worker).await?;
        Ok(Ok(report.partitions.iter().map(|one| one.partition).collect()))
    })
    .await
}

/// A worker stands still until others have its partitions, and goes on.
pub async fn frozen(scene: &Scene, dice: &mut Dice) -> Result<Option<String>> {
    let (dam, busy) = scene.dam_up().await?;
    let victim = &busy[dice.index(busy.len())];
    let owned = owned(scene, victim).await?;
    let members = scene.members().await?;
    dam.open().await;
    sleep(dice.millis(0, 60)).await;
    let pid = scene.signal(victim, "stream-worker", "STOP").await?;
    let taken = taken_over(scene, victim, &owned, members).await;
    scene.node.signal(pid, "CONT").await?;
    let Some(taken) = taken? else { return Ok(None) };
    // With luck: a worker that has heard from its group first drops what it holds without having to be refused.
    let fenced = scene.catch(FENCED, async || was_fenced(scene, victim).await).await?;
    Ok(Some(format!(
        "given up by its group, {taken} of its {} partitions taken over before it thawed, {}",
        owned.len(),
        fenced.map_or("not seen to be refused then", |()| "its batch refused then")
    )))
}

/// How many partitions of a worker that stands still have another owner, once its group has given it up.
async fn taken_over(scene: &Scene, victim: &Pod, owned: &[i32], members: usize) -> Result<Option<usize>> {
    let mut before = scene.owners().await?;
    before.retain(|partition, _| owned.contains(partition));
    let given_up = async || Ok((scene.members().await? < members).then_some(()));
    if scene.catch(GIVEN_UP, given_up).await?.is_none() {
        return Ok(None);
    }
    let taken = async || {
        let mut now = scene.owners().await?;
        now.retain(|partition, _| owned.contains(partition));
        Ok(Some(moved(&before, &now)).filter(|taken| *taken > 0))
    };
    if let Some(taken) = scene.catch(TAKEN_OVER, taken).await? {
        return Ok(Some(taken));
    }
    // A transaction that it has open keeps the others waiting. PostgreSQL ends it after a minute (`idle_in_transaction_session_timeout`),
    // and at that time the kubelet would end the worker, which does not answer: so it is ended now.
    let statement =
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE '%' || $1 AND xact_start IS NOT NULL";
    scene.query(statement, &[&victim.name_any()]).await?;
    scene.catch(TAKEN_OVER_AFTER_ALL, taken).await
}

/// Whether a worker that thawed has said that what it held was no longer its own.
async fn was_fenced(scene: &Scene, worker: &Pod) -> Result<Option<()>> {
    let log = LogParams {
        // It has said nothing for longer than that before it thawed.
        since_seconds: Some(10),
        ..LogParams::default()
    };
    let said = scene.world.api::<Pod>().logs(&worker.name_any(), &log).await?;
    Ok(said.contains("another worker has claimed partitions").then_some(()))
}

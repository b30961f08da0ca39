//! How each fault is made to happen, and how it is seen that it did.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use tokio::time::sleep;

use super::{Fault, Misdeed, Scene, Store, evidence, garbage::Garbage, group, network, outage};
use crate::{dice::Dice, stores};

/// What is looked for must show within this time, else the fault has missed.
pub(super) const WINDOW: Duration = Duration::from_secs(40);
/// So many messages come again, or are no records.
const AGAIN: usize = 60;
const GARBAGE: usize = 5;

/// Makes a fault happen and ends it. Gives what was seen of its effect; nothing where it had none.
pub async fn strike(scene: &Scene, fault: Fault, dice: &mut Dice) -> Result<Option<String>> {
    match fault {
        Fault::IngestKilled => ingest_killed(scene).await,
        Fault::WorkerKilled => worker_killed(scene, dice).await,
        Fault::Killed(Store::Registry) => outage::registry_killed(scene, dice).await,
        Fault::Killed(store) => outage::store_killed(scene, store, dice).await,
        Fault::Network(kind, store) => outage::network_broken(scene, kind, store, dice).await,
        Fault::Scaled => group::scaled(scene).await,
        Fault::TwoRuns => two_runs(scene, dice).await,
        Fault::Source(misdeed) => source(scene, misdeed, dice).await,
        Fault::VolumeFull => volume_full(scene, dice).await,
        Fault::Frozen => group::frozen(scene, dice).await,
        Fault::Redelivered => redelivered(scene, dice).await,
        Fault::Garbage => garbage(scene, dice).await,
    }
}

async fn ingest_killed(scene: &Scene) -> Result<Option<String>> {
    let process = async || {
        for pod in scene.running("ingest").await? {
            let pids = scene.node.processes(&pod.uid().context("a uid")?, "ingest-job").await?;
            if let Some(pid) = pids.first() {
                return Ok(Some(*pid));
            }
        }
        Ok(None)
    };
    let Some(pid) = scene.catch(WINDOW, process).await? else {
        return Ok(None);
    };
    let unpublished = async || Ok(Some(scene.unpublished().await?).filter(|rows| *rows > 0));
    // It may end before that.
    if scene.catch(Duration::from_secs(5), unpublished).await?.is_none() || !scene.node.signal(pid, "KILL").await? {
        return Ok(None);
    }
    let left = scene.unpublished().await?;
    Ok((left > 0).then(|| format!("{left} rows landed and not published")))
}

/// Ends a worker, and its pod with it: the next one starts at once, not after a back-off.
pub(super) async fn end_worker(scene: &Scene, pod: &Pod) -> Result<()> {
    scene.signal(pod, "stream-worker", "KILL").await?;
    scene.world.kill(&pod.name_any()).await
}

async fn worker_killed(scene: &Scene, dice: &mut Dice) -> Result<Option<String>> {
    let (dam, busy) = scene.dam_up().await?;
    let victim = &busy[dice.index(busy.len())];
    let (owned, mut ends) = (group::owned(scene, victim).await?, scene.ends().await?);
    ends.retain(|partition, _| owned.contains(partition));
    // Found before: a kill must not wait for that.
    let pid = scene.process(victim, "stream-worker").await?;
    dam.open().await;
    // Anywhere in one of the batches that follow now.
    sleep(dice.millis(0, 60)).await;
    ensure!(scene.node.signal(pid, "KILL").await?, "the worker is gone");
    // Counted after the kill, so there were at least as many at that moment.
    let left = scene.behind(&ends).await?;
    scene.world.kill(&victim.name_any()).await?;
    Ok((left > 0).then(|| format!("{left} messages of its partitions were not stored")))
}

async fn two_runs(scene: &Scene, dice: &mut Dice) -> Result<Option<String>> {
    let (one, other) = (scene.start_run(dice).await?, scene.start_run(dice).await?);
    let statement = "SELECT count(*) FROM userpipeline.runs AS a JOIN userpipeline.runs AS b USING (pipeline) \
         WHERE a.pipeline = $1 AND a.job = $2 AND b.job = $3 AND a.started_at < b.finished_at AND b.started_at < a.finished_at";
    let pipeline = scene.world.id().to_string();
    let overlapping = async || {
        let rows = scene.query(statement, &[&pipeline, &one, &other]).await?;
        Ok(rows.first().map(|row| row.get::<_, i64>(0)).filter(|pairs| *pairs > 0))
    };
    Ok(scene
        .catch(WINDOW, overlapping)
        .await?
        .map(|_| "their times overlap in the ledger".to_owned()))
}

async fn source(scene: &Scene, misdeed: Misdeed, dice: &mut Dice) -> Result<Option<String>> {
    let times = 1 + dice.index(5);
    scene.server.arm(misdeed, times);
    let all = async || Ok(Some(scene.server.done()).filter(|(_, left)| *left == 0));
    scene.catch(WINDOW, all).await?;
    let (done, _) = scene.server.done();
    scene.server.arm(misdeed, 0);
    Ok((done > 0).then(|| format!("{done} answers")))
}

async fn volume_full(scene: &Scene, dice: &mut Dice) -> Result<Option<String>> {
    let before = evidence::without_space(scene).await?;
    scene.volume.fill(&scene.world.client, &scene.node, &scene.tables()).await?;
    let full = async || {
        let now = evidence::without_space(scene).await?;
        let new: Vec<&str> = now.difference(&before).map(String::as_str).collect();
        Ok((!new.is_empty()).then(|| format!("no space left, says {}", new.join(", "))))
    };
    let seen = scene.catch(WINDOW * 2, full).await?;
    sleep(dice.millis(0, 3000)).await;
    scene.volume.empty(&scene.world.client, &scene.node).await?;
    Ok(seen)
}

async fn redelivered(scene: &Scene, dice: &mut Dice) -> Result<Option<String>> {
    let (count, of) = deliver_again(scene, dice, AGAIN).await?;
    Ok((count > 0).then(|| format!("{count} of {of} messages again")))
}

/// Puts messages that are on the topic there once more, drawn from all of them, on any partition; gives how many of how many.
pub async fn deliver_again(scene: &Scene, dice: &mut Dice, count: usize) -> Result<(usize, usize)> {
    let topic = scene.topic();
    let planted = scene.planted.lock().await.clone();
    let mut messages = stores::topic(&topic).await?;
    messages.retain(|message| message.headers.contains_key("version") && !planted.contains_key(&message.payload));
    let again = (0..count.min(messages.len())).map(|_| {
        let message = &messages[dice.index(messages.len())];
        let version = message.headers["version"].parse().ok();
        let payload = Some(message.payload.clone()).filter(|payload| !payload.is_empty());
        (
            Some(i32::try_from(dice.index(6)).unwrap_or(0)),
            message.key.clone().unwrap_or_default(),
            payload,
            version,
        )
    });
    let again: Vec<_> = again.collect();
    let count = again.len();
    stores::produce_to(&topic, again).await?;
    Ok((count, messages.len()))
}

async fn garbage(scene: &Scene, dice: &mut Dice) -> Result<Option<String>> {
    let letters: Vec<Garbage> = (0..GARBAGE).map(|_| Garbage::of(dice.roll())).collect();
    let planted = letters.iter().map(|letter| (letter.payload.clone(), letter.clone()));
    scene.planted.lock().await.extend(planted);
    let messages = letters.into_iter().map(|letter| (letter.key, letter.payload, letter.version));
    stores::produce(&scene.topic(), messages.collect()).await?;
    Ok(Some(format!("{GARBAGE} messages")))
}

/// Ends whatever an interrupted strike has left broken.
pub async fn heal(scene: &Scene) -> Result<()> {
    network::heal(&scene.node).await?;
    scene.volume.empty(&scene.world.client, &scene.node).await
}

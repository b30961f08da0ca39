//! How each fault is made to happen, and how it is seen that it did.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use tokio::time::sleep;

use super::{
    Fault, Misdeed, Network, Scene, Store,
    network::{self, Broken},
    services,
};
use crate::{dice::Dice, eventually, stores, world::SOON};

/// What is looked for must show within this time, else the fault has missed.
const WINDOW: Duration = Duration::from_secs(40);
/// A worker that was stopped is given up by its group after 20 seconds.
const GIVEN_UP: Duration = Duration::from_secs(40);
/// So many messages come again, or are no records.
const AGAIN: usize = 60;
const GARBAGE: usize = 5;

/// Makes a fault happen and ends it. Gives what was seen of its effect; nothing where it had none.
pub async fn strike(scene: &Scene, fault: Fault, dice: &mut Dice) -> Result<Option<String>> {
    match fault {
        Fault::IngestKilled => ingest_killed(scene).await,
        Fault::WorkerKilled => worker_killed(scene, dice).await,
        Fault::Killed(Store::Registry) => registry_killed(scene, dice).await,
        Fault::Killed(store) => store_killed(scene, store, dice).await,
        Fault::Network(kind, store) => network_broken(scene, kind, store, dice).await,
        Fault::Scaled => scaled(scene).await,
        Fault::TwoRuns => two_runs(scene, dice).await,
        Fault::Source(misdeed) => source(scene, misdeed, dice).await,
        Fault::VolumeFull => volume_full(scene, dice).await,
        Fault::Frozen => frozen(scene, dice).await,
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
async fn end_worker(scene: &Scene, pod: &Pod) -> Result<()> {
    scene.signal(pod, "stream-worker", "KILL").await?;
    scene.world.kill(&pod.name_any()).await
}

async fn lag_left(scene: &Scene) -> Result<Option<String>> {
    let lag = scene.lag().await?;
    Ok((lag > 0).then(|| format!("lag {lag}")))
}

async fn worker_killed(scene: &Scene, dice: &mut Dice) -> Result<Option<String>> {
    let (dam, busy) = scene.dam_up().await?;
    let victim = &busy[dice.index(busy.len())];
    dam.open().await;
    // Anywhere in one of the batches that follow now.
    sleep(dice.millis(0, 120)).await;
    scene.signal(victim, "stream-worker", "KILL").await?;
    let left = lag_left(scene).await?;
    scene.world.kill(&victim.name_any()).await?;
    Ok(left)
}

async fn store_killed(scene: &Scene, store: Store, dice: &mut Dice) -> Result<Option<String>> {
    let (dam, busy) = scene.dam_up().await?;
    let lag = scene.lag().await?;
    if store != Store::Postgres {
        dam.open().await;
        sleep(dice.millis(0, 50)).await;
    }
    services::kill(&scene.world.client, &scene.node, store).await?;
    services::back(&scene.world.client, store).await?;
    Ok(Some(format!("lag {lag}, {} workers with a batch in flight", busy.len())))
}

/// A run and a worker that start need the registry, and nobody else does.
async fn in_need_of_the_registry(scene: &Scene, dice: &mut Dice) -> Result<()> {
    if let Some(pod) = scene.running("worker").await?.first() {
        end_worker(scene, pod).await?;
    }
    scene.start_run(dice).await.map(drop)
}

async fn retries(scene: &Scene, store: Store) -> Result<f64> {
    let mut sum = 0.0;
    for pod in scene.running("worker").await? {
        let label = format!("store=\"{}\"", store.label());
        sum += scene.world.metric(&pod, "retries", &label).await.unwrap_or(0.0);
    }
    Ok(sum)
}

/// How often runs have ended for this reason.
async fn failed_runs(scene: &Scene, reason: &str, message: &str) -> Result<i64> {
    let pipeline = scene.world.id().to_string();
    let statement = "SELECT count(*) FROM userpipeline.runs WHERE pipeline = $1 AND reason = $2 AND message LIKE $3";
    let rows = scene.query(statement, &[&pipeline, &reason, &format!("%{message}%")]).await?;
    Ok(rows.first().context("a number")?.get(0))
}

async fn registry_killed(scene: &Scene, dice: &mut Dice) -> Result<Option<String>> {
    let failed = failed_runs(scene, "RegistryUnreachable", "").await?;
    services::kill(&scene.world.client, &scene.node, Store::Registry).await?;
    in_need_of_the_registry(scene, dice).await?;
    let needed = async || {
        let (retries, runs) = (
            retries(scene, Store::Registry).await?,
            failed_runs(scene, "RegistryUnreachable", "").await? - failed,
        );
        Ok((retries > 0.0 || runs > 0).then(|| format!("{retries} attempts and {runs} runs without it")))
    };
    let seen = scene.catch(WINDOW / 2, needed).await?;
    services::back(&scene.world.client, Store::Registry).await?;
    Ok(seen)
}

async fn network_broken(scene: &Scene, kind: Network, store: Store, dice: &mut Dice) -> Result<Option<String>> {
    let (dam, busy) = scene.dam_up().await?;
    let end = services::end(&scene.world.client, &scene.node, store).await?;
    let broken = Broken::new(&scene.node, kind, &end).await?;
    dam.open().await;
    if store == Store::Registry {
        in_need_of_the_registry(scene, dice).await?;
    }
    let until = match kind {
        Network::Cut => dice.millis(500, 4000),
        Network::Slow => dice.millis(4000, 8000),
        Network::BlackHole => dice.millis(3000, 15_000),
    };
    sleep(until).await;
    let felt = async || Ok(Some(broken.felt().await?).filter(|packets| *packets > 0));
    let felt = scene.catch(WINDOW, felt).await?;
    broken.heal().await?;
    Ok(felt.map(|packets| format!("{packets} packets, for {until:?}, {} workers with a batch in flight", busy.len())))
}

async fn scaled(scene: &Scene) -> Result<Option<String>> {
    let mut seen = Vec::new();
    for replicas in [1, 4, 2] {
        let (dam, _) = scene.dam_up().await?;
        let lag = scene.lag().await?;
        dam.open().await;
        scene.scale(replicas).await?;
        let owners = async || {
            let owners: BTreeSet<_> = scene.owners().await?.into_values().collect();
            let members = scene.members().await?;
            Ok(if members == usize::try_from(replicas)? {
                Ok(owners.len())
            } else {
                Err(format!("{members} members"))
            })
        };
        eventually("the group to have as many members", SOON, owners).await?;
        seen.push(format!("{replicas} with lag {lag}"));
    }
    Ok(Some(seen.join(", ")))
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
    let failed = failed_runs(scene, "PostgresFailed", "No space left").await?;
    let before = retries(scene, Store::Postgres).await?;
    scene.volume.fill(&scene.world.client, &scene.node, &scene.tables()).await?;
    let full = async || {
        let (retries, runs) = (
            retries(scene, Store::Postgres).await? - before,
            failed_runs(scene, "PostgresFailed", "No space left").await? - failed,
        );
        Ok((retries > 0.0 || runs > 0).then(|| format!("{retries} batches and {runs} runs had no space")))
    };
    let seen = scene.catch(WINDOW * 2, full).await?;
    sleep(dice.millis(0, 3000)).await;
    scene.volume.empty(&scene.node).await?;
    Ok(seen)
}

async fn frozen(scene: &Scene, dice: &mut Dice) -> Result<Option<String>> {
    let (dam, busy) = scene.dam_up().await?;
    let (members, owners) = (scene.members().await?, scene.owners().await?);
    let victim = &busy[dice.index(busy.len())];
    dam.open().await;
    sleep(dice.millis(0, 60)).await;
    let pid = scene.signal(victim, "stream-worker", "STOP").await?;
    let given_up = async || Ok((scene.members().await? < members).then_some(()));
    let seen = scene.catch(GIVEN_UP, given_up).await;
    // While a transaction of the frozen one is open, nobody can take over; with luck it is not.
    let taken_over = async || {
        let now = scene.owners().await?;
        let taken = now.iter().filter(|(partition, owner)| owners.get(partition) != Some(owner)).count();
        Ok(Some(taken).filter(|taken| *taken > 0))
    };
    let taken = scene.catch(Duration::from_secs(8), taken_over).await;
    scene.node.signal(pid, "CONT").await?;
    Ok(seen?.map(|()| {
        format!(
            "given up by its group, {} partitions taken over before it thawed",
            taken.ok().flatten().unwrap_or(0)
        )
    }))
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
    messages.retain(|message| message.headers.contains_key("version") && !planted.contains(&message.payload));
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
    let letters: Vec<(String, Vec<u8>, Option<i64>)> = (0..GARBAGE)
        .map(|_| {
            let nonce = dice.roll();
            // No frame, no such schema, or no version.
            match nonce % 3 {
                0 => (format!("[\"x\",{nonce}]"), format!("garbage {nonce}").into_bytes(), Some(1)),
                1 => {
                    let mut payload = vec![0, 0x7f, 0xff, 0xff, 0xff];
                    payload.extend(nonce.to_be_bytes());
                    (format!("[\"x\",{nonce}]"), payload, Some(1))
                }
                _ => {
                    let mut payload = vec![0, 0, 0, 0, 1];
                    payload.extend(nonce.to_be_bytes());
                    (format!("[\"x\",{nonce}]"), payload, None)
                }
            }
        })
        .collect();
    scene
        .planted
        .lock()
        .await
        .extend(letters.iter().map(|(_, payload, _)| payload.clone()));
    stores::produce(&scene.topic(), letters).await?;
    Ok(Some(format!("{GARBAGE} messages")))
}

/// Ends whatever an interrupted strike has left broken.
pub async fn heal(scene: &Scene) -> Result<()> {
    network::heal(&scene.node).await?;
    scene.volume.empty(&scene.node).await
}

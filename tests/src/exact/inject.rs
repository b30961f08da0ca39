//! Injects each fault and observes its effect.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use tokio::time::sleep;

use super::{
    Fault, SourceFault, Store, Trial,
    evidence::{self, WINDOW},
    garbage::Garbage,
    group, network, outage,
};
use crate::{random::SplitMix64, stores};

const REDELIVERED_MESSAGES: usize = 60;
const GARBAGE_MESSAGES: usize = 5;

/// Injects a fault and ends it. Returns its observed effect, or nothing if it had none.
pub async fn inject(trial: &Trial, fault: Fault, random: &mut SplitMix64) -> Result<Option<String>> {
    match fault {
        Fault::IngestKilled => ingest_killed(trial).await,
        Fault::WorkerKilled => worker_killed(trial, random).await,
        Fault::Killed(Store::Registry) => outage::registry_killed(trial, random).await,
        Fault::Killed(store) => outage::store_killed(trial, store, random).await,
        Fault::Network(kind, store) => outage::network_broken(trial, kind, store, random).await,
        Fault::Scaled => group::scaled(trial).await,
        Fault::TwoRuns => two_runs(trial, random).await,
        Fault::Source(source_fault) => source(trial, source_fault, random).await,
        Fault::VolumeFull => volume_full(trial, random).await,
        Fault::Frozen => group::frozen(trial, random).await,
        Fault::Redelivered => redelivered(trial, random).await,
        Fault::Garbage => garbage(trial, random).await,
    }
}

async fn ingest_killed(trial: &Trial) -> Result<Option<String>> {
    let process = async || {
        for pod in trial.running("ingest").await? {
            let pids = trial.node.processes(&pod.uid().context("a uid")?, "ingest-job").await?;
            if let Some(pid) = pids.first() {
                return Ok(Some(*pid));
            }
        }
        Ok(None)
    };
    let Some(pid) = trial.poll_until(WINDOW, process).await? else {
        return Ok(None);
    };
    let unpublished = async || Ok(Some(trial.unpublished().await?).filter(|rows| *rows > 0));
    // The run may end before it has rows to publish.
    if trial.poll_until(Duration::from_secs(5), unpublished).await?.is_none() || !trial.node.signal(pid, "KILL").await? {
        return Ok(None);
    }
    let left = trial.unpublished().await?;
    Ok((left > 0).then(|| format!("{left} rows landed and not published")))
}

async fn worker_killed(trial: &Trial, random: &mut SplitMix64) -> Result<Option<String>> {
    let (sink_lock, busy) = trial.hold_sink().await?;
    let victim = &busy[random.index(busy.len())];
    let (owned, mut ends) = (group::owned(trial, victim).await?, trial.ends().await?);
    ends.retain(|partition, _| owned.contains(partition));
    // Found in advance, so that the kill does not wait for it.
    let pid = trial.process(victim, "stream-worker").await?;
    sink_lock.release().await;
    // At a random point of one of the next batches.
    sleep(random.millis(0, 60)).await;
    ensure!(trial.node.signal(pid, "KILL").await?, "the worker is gone");
    // Counted after the kill, so at the kill there were at least as many.
    let left = trial.not_stored(&ends).await?;
    trial.world.kill(&victim.name_any()).await?;
    Ok((left > 0).then(|| format!("{left} messages of its partitions were not stored")))
}

async fn two_runs(trial: &Trial, random: &mut SplitMix64) -> Result<Option<String>> {
    let (one, other) = (trial.start_run(random).await?, trial.start_run(random).await?);
    let statement = "SELECT count(*) FROM userpipeline.runs AS a JOIN userpipeline.runs AS b USING (pipeline) \
         WHERE a.pipeline = $1 AND a.job = $2 AND b.job = $3 AND a.started_at < b.finished_at AND b.started_at < a.finished_at";
    let pipeline = trial.world.id().to_string();
    let overlapping = async || {
        let rows = trial.query(statement, &[&pipeline, &one, &other]).await?;
        Ok(rows.first().map(|row| row.get::<_, i64>(0)).filter(|pairs| *pairs > 0))
    };
    Ok(trial
        .poll_until(WINDOW, overlapping)
        .await?
        .map(|_| "their times overlap in the ledger".to_owned()))
}

async fn source(trial: &Trial, source_fault: SourceFault, random: &mut SplitMix64) -> Result<Option<String>> {
    let times = 1 + random.index(5);
    trial.server.inject(source_fault, times);
    let all = async || Ok(Some(trial.server.injected()).filter(|(_, left)| *left == 0));
    trial.poll_until(WINDOW, all).await?;
    let (injected, _) = trial.server.injected();
    trial.server.inject(source_fault, 0);
    Ok((injected > 0).then(|| format!("{injected} answers")))
}

async fn volume_full(trial: &Trial, random: &mut SplitMix64) -> Result<Option<String>> {
    let before = evidence::without_space(trial).await?;
    trial.volume.fill(&trial.world.client, &trial.node, &trial.tables()).await?;
    let full = async || {
        let now = evidence::without_space(trial).await?;
        let new: Vec<&str> = now.difference(&before).map(String::as_str).collect();
        Ok((!new.is_empty()).then(|| format!("no space left, reported by {}", new.join(", "))))
    };
    let effect = trial.poll_until(WINDOW * 2, full).await?;
    sleep(random.millis(0, 3000)).await;
    trial.volume.empty(&trial.world.client, &trial.node).await?;
    Ok(effect)
}

async fn redelivered(trial: &Trial, random: &mut SplitMix64) -> Result<Option<String>> {
    let (count, of) = redeliver(trial, random, REDELIVERED_MESSAGES).await?;
    Ok((count > 0).then(|| format!("{count} of {of} messages redelivered")))
}

/// Redelivers random messages of the topic on random partitions. Returns how many, and of how many.
pub async fn redeliver(trial: &Trial, random: &mut SplitMix64, count: usize) -> Result<(usize, usize)> {
    let topic = trial.topic();
    let planted = trial.planted.lock().await.clone();
    let mut messages = stores::messages(&topic).await?;
    messages.retain(|message| message.headers.contains_key("version") && !planted.contains_key(&message.payload));
    let redelivered = (0..count.min(messages.len())).map(|_| {
        let message = &messages[random.index(messages.len())];
        let version = message.headers["version"].parse().ok();
        let payload = Some(message.payload.clone()).filter(|payload| !payload.is_empty());
        (
            Some(i32::try_from(random.index(6)).unwrap_or(0)),
            message.key.clone().unwrap_or_default(),
            payload,
            version,
        )
    });
    let redelivered: Vec<_> = redelivered.collect();
    let count = redelivered.len();
    stores::produce_to(&topic, redelivered).await?;
    Ok((count, messages.len()))
}

async fn garbage(trial: &Trial, random: &mut SplitMix64) -> Result<Option<String>> {
    let letters: Vec<Garbage> = (0..GARBAGE_MESSAGES).map(|_| Garbage::of(random.next_u64())).collect();
    let planted = letters.iter().map(|letter| (letter.payload.clone(), letter.clone()));
    trial.planted.lock().await.extend(planted);
    let messages = letters.into_iter().map(|letter| (letter.key, letter.payload, letter.version));
    stores::produce(&trial.topic(), messages.collect()).await?;
    Ok(Some(format!("{GARBAGE_MESSAGES} messages")))
}

/// Ends what an interrupted fault has left broken.
pub async fn heal(trial: &Trial) -> Result<()> {
    network::heal(&trial.node).await?;
    trial.volume.empty(&trial.world.client, &trial.node).await
}

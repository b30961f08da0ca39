//! Scales and stops workers under load, and observes that their partitions move.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt, api::LogParams};
use tokio::time::sleep;
use uuid::Uuid;

use super::{
    Trial,
    evidence::{self, WINDOW},
    services,
    trial::WORKERS,
};
use crate::{eventually, random::SplitMix64, world::SOON};

/// The session of a stopped worker times out after 20 seconds.
const EXPELLED: Duration = Duration::from_secs(40);
/// The other members learn of it at their next heartbeat, within three seconds.
const TAKEN_OVER: Duration = Duration::from_secs(8);
/// After its transaction has ended, workers that waited for it retry with a back-off.
const TAKEN_OVER_AFTER_UNLOCK: Duration = Duration::from_secs(20);
/// A resumed worker is refused at its next batch.
const FENCED: Duration = Duration::from_secs(5);

/// Scales to one worker, to four, and back.
pub async fn scaled(trial: &Trial) -> Result<Option<String>> {
    // From here on partitions move because of this fault, and not because of an earlier one.
    settled(trial, WORKERS).await?;
    let mut steps = Vec::new();
    // Every step is taken, even after a miss, so that the next attempt starts with the same number of workers.
    for replicas in [1, 4, WORKERS] {
        steps.push(scaled_to(trial, replicas).await?);
    }
    let effects: Option<Vec<String>> = steps.into_iter().collect();
    Ok(effects.map(|steps| steps.join(", ")))
}

/// Returns nothing if the partitions moved without a backlog.
async fn scaled_to(trial: &Trial, replicas: usize) -> Result<Option<String>> {
    // Every partition has an owner.
    trial.recovered().await?;
    let (sink_lock, _) = trial.hold_sink().await?;
    let before = trial.owners().await?;
    trial.scale_workers(replicas).await?;
    // Removed workers are terminating, or new ones have started: they cannot join before the lock is released.
    let resized = async || Ok((trial.running("worker").await?.len() == replicas).then_some(()));
    let resized = trial.poll_until(WINDOW, resized).await?;
    sink_lock.release().await;
    let mut lag = 0;
    let changed = async || {
        // Read first, so it is the lag before, or at, the first move.
        lag = trial.lag().await?;
        Ok(Some(moved(&before, &trial.owners().await?)).filter(|moved| *moved > 0))
    };
    let changed = trial.poll_until(WINDOW, changed).await?;
    settled(trial, replicas).await?;
    let moved = moved(&before, &trial.owners().await?);
    let hit = resized.is_some() && changed.is_some() && lag > 0;
    Ok(hit.then(|| format!("{replicas} with lag {lag}, {moved} partitions moved")))
}

/// Waits until this many workers are ready and the group has as many members.
async fn settled(trial: &Trial, workers: usize) -> Result<()> {
    eventually(&format!("{workers} workers in the group"), SOON, async || {
        let ready = trial.running("worker").await?.iter().filter(|pod| services::is_ready(pod)).count();
        let members = trial.members().await?;
        Ok(if (ready, members) == (workers, workers) {
            Ok(())
        } else {
            Err(format!("{ready} ready, {members} members"))
        })
    })
    .await
}

/// The number of partitions with another owner.
fn moved(before: &BTreeMap<i32, Uuid>, now: &BTreeMap<i32, Uuid>) -> usize {
    now.iter().filter(|(partition, owner)| before.get(partition) != Some(owner)).count()
}

/// The partitions that a worker reports as its own.
pub async fn owned(trial: &Trial, worker: &Pod) -> Result<Vec<i32>> {
    eventually("the worker's partitions", SOON, async || {
        let report = evidence::status(trial, worker).await?;
        Ok(Ok(report.partitions.iter().map(|one| one.partition).collect()))
    })
    .await
}

/// Stops a worker until others own its partitions, then resumes it.
pub async fn frozen(trial: &Trial, random: &mut SplitMix64) -> Result<Option<String>> {
    let (sink_lock, busy) = trial.hold_sink().await?;
    let victim = &busy[random.index(busy.len())];
    let owned = owned(trial, victim).await?;
    let members = trial.members().await?;
    sink_lock.release().await;
    sleep(random.millis(0, 60)).await;
    let pid = trial.signal(victim, "stream-worker", "STOP").await?;
    let taken = taken_over(trial, victim, &owned, members).await;
    trial.node.signal(pid, "CONT").await?;
    let Some(taken) = taken? else { return Ok(None) };
    // Not always: a worker that hears from its group first drops its batch without being refused.
    let fenced = trial.poll_until(FENCED, async || was_fenced(trial, victim).await).await?;
    Ok(Some(format!(
        "expelled by its group, {taken} of its {} partitions taken over before it resumed, {}",
        owned.len(),
        fenced.map_or("not observed to be refused then", |()| "its batch refused then")
    )))
}

/// The number of partitions of a stopped worker that have another owner after its group has expelled it.
async fn taken_over(trial: &Trial, victim: &Pod, owned: &[i32], members: usize) -> Result<Option<usize>> {
    let mut before = trial.owners().await?;
    before.retain(|partition, _| owned.contains(partition));
    let expelled = async || Ok((trial.members().await? < members).then_some(()));
    if trial.poll_until(EXPELLED, expelled).await?.is_none() {
        return Ok(None);
    }
    let taken = async || {
        let mut now = trial.owners().await?;
        now.retain(|partition, _| owned.contains(partition));
        Ok(Some(moved(&before, &now)).filter(|taken| *taken > 0))
    };
    if let Some(taken) = trial.poll_until(TAKEN_OVER, taken).await? {
        return Ok(Some(taken));
    }
    // Its open transaction blocks the others. PostgreSQL would end it after a minute (`idle_in_transaction_session_timeout`), but by
    // then the kubelet restarts the worker, which does not answer its probe. So it is ended here.
    let statement =
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE '%' || $1 AND xact_start IS NOT NULL";
    trial.query(statement, &[&victim.name_any()]).await?;
    trial.poll_until(TAKEN_OVER_AFTER_UNLOCK, taken).await
}

/// Whether a resumed worker has logged that its partitions have another owner.
async fn was_fenced(trial: &Trial, worker: &Pod) -> Result<Option<()>> {
    let log = LogParams {
        // Before it resumed it was silent for longer than this.
        since_seconds: Some(10),
        ..LogParams::default()
    };
    let text = trial.world.api::<Pod>().logs(&worker.name_any(), &log).await?;
    Ok(text.contains("another worker has taken over partitions").then_some(()))
}

//! Kills a store or breaks the network to it, and observes that it was needed.

use anyhow::Result;
use tokio::time::sleep;

use super::{
    Network, Store, Trial,
    evidence::{Attempts, Retries, WINDOW},
    network::Broken,
    services,
};
use crate::random::SplitMix64;

pub async fn store_killed(trial: &Trial, store: Store, random: &mut SplitMix64) -> Result<Option<String>> {
    let (client, node) = (&trial.world.client, &trial.node);
    let (sink_lock, _) = trial.hold_sink().await?;
    let (ends, victim) = (trial.ends().await?, services::find_victim(client, node, store).await?);
    let retries = Retries::now(trial, store).await?;
    let mut left = None;
    if store == Store::Postgres {
        // The blocked batches are certainly in flight. The lock ends with PostgreSQL.
        victim.kill(node).await?;
    } else {
        sink_lock.release().await;
        sleep(random.millis(0, 50)).await;
        victim.kill(node).await?;
        // Counted after the kill, so at the kill there were at least as many.
        left = Some(trial.not_stored(&ends).await?);
    }
    victim.replace(client).await?;
    let effect = match (store, left) {
        // Workers count no retries for a missing broker, because librdkafka retries by itself.
        (Store::Kafka, Some(left)) => (left > 0).then(|| format!("{left} messages were not stored")),
        _ => trial
            .poll_until(WINDOW, async || retried(&retries, trial).await)
            .await?
            .map(|retries| format!("{retries} batches failed without it")),
    };
    services::wait_until_ready(client, store).await?;
    Ok(effect)
}

async fn retried(retries: &Retries, trial: &Trial) -> Result<Option<f64>> {
    Ok(Some(retries.since(trial).await?).filter(|retries| *retries > 0.0))
}

/// Starts a run and a worker: only these need the registry.
async fn require_registry(trial: &Trial, random: &mut SplitMix64) -> Result<()> {
    if let Some(pod) = trial.running("worker").await?.first() {
        trial.kill_worker(pod).await?;
    }
    trial.start_run(random).await.map(drop)
}

pub async fn registry_killed(trial: &Trial, random: &mut SplitMix64) -> Result<Option<String>> {
    let (retries, attempts) = (Retries::now(trial, Store::Registry).await?, Attempts::now(trial).await?);
    services::kill(&trial.world.client, &trial.node, Store::Registry).await?;
    require_registry(trial, random).await?;
    let needed = async || {
        let (retries, runs) = (
            retries.since(trial).await?,
            attempts.failed_since(trial, "RegistryUnreachable").await?,
        );
        Ok((retries > 0.0 || runs > 0).then(|| format!("{retries} batches and {runs} runs without it")))
    };
    let effect = trial.poll_until(WINDOW / 2, needed).await?;
    services::wait_until_ready(&trial.world.client, Store::Registry).await?;
    Ok(effect)
}

pub async fn network_broken(trial: &Trial, kind: Network, store: Store, random: &mut SplitMix64) -> Result<Option<String>> {
    let (sink_lock, busy) = trial.hold_sink().await?;
    let end = services::endpoint(&trial.world.client, &trial.node, store).await?;
    let broken = Broken::new(&trial.node, kind, &end).await?;
    sink_lock.release().await;
    if store == Store::Registry {
        require_registry(trial, random).await?;
    }
    let until = match kind {
        Network::Cut => random.millis(500, 4000),
        Network::Slow => random.millis(4000, 8000),
        Network::BlackHole => random.millis(3000, 15_000),
    };
    sleep(until).await;
    let affected = async || Ok(Some(broken.affected_packets().await?).filter(|packets| *packets > 0));
    let affected = trial.poll_until(WINDOW, affected).await?;
    broken.heal().await?;
    Ok(affected.map(|packets| format!("{packets} packets, for {until:?}, {} workers with a batch in flight", busy.len())))
}

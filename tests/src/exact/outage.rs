//! Stores that are killed or cut off, and how it is seen that somebody needed them.

use anyhow::Result;
use tokio::time::sleep;

use super::{
    Network, Scene, Store,
    evidence::{Attempts, Retries},
    network::Broken,
    services,
    strike::{WINDOW, end_worker},
};
use crate::dice::Dice;

/// Kills a store that batches are written to.
pub async fn store_killed(scene: &Scene, store: Store, dice: &mut Dice) -> Result<Option<String>> {
    let (client, node) = (&scene.world.client, &scene.node);
    let (dam, _) = scene.dam_up().await?;
    let (ends, victim) = (scene.ends().await?, services::aim(client, node, store).await?);
    let retries = Retries::now(scene, store).await?;
    let mut left = None;
    if store == Store::Postgres {
        // The batches that are held are in flight for sure. The dam is gone with it.
        victim.kill(node).await?;
    } else {
        dam.open().await;
        sleep(dice.millis(0, 50)).await;
        victim.kill(node).await?;
        // Counted after the kill, so there were at least as many at that moment.
        left = Some(scene.behind(&ends).await?);
    }
    victim.replace(client).await?;
    let seen = match (store, left) {
        // Workers count nothing where a broker is gone: librdkafka tries again by itself.
        (Store::Kafka, Some(left)) => (left > 0).then(|| format!("{left} messages were not stored")),
        _ => scene
            .catch(WINDOW, async || retried(&retries, scene).await)
            .await?
            .map(|retries| format!("{retries} batches failed for want of it")),
    };
    services::back(client, store).await?;
    Ok(seen)
}

async fn retried(retries: &Retries, scene: &Scene) -> Result<Option<f64>> {
    Ok(Some(retries.since(scene).await?).filter(|retries| *retries > 0.0))
}

/// A run and a worker that start need the registry, and nobody else does.
async fn in_need_of_the_registry(scene: &Scene, dice: &mut Dice) -> Result<()> {
    if let Some(pod) = scene.running("worker").await?.first() {
        end_worker(scene, pod).await?;
    }
    scene.start_run(dice).await.map(drop)
}

/// Kills the registry.
pub async fn registry_killed(scene: &Scene, dice: &mut Dice) -> Result<Option<String>> {
    let (retries, attempts) = (Retries::now(scene, Store::Registry).await?, Attempts::now(scene).await?);
    services::kill(&scene.world.client, &scene.node, Store::Registry).await?;
    in_need_of_the_registry(scene, dice).await?;
    let needed = async || {
        let (retries, runs) = (
            retries.since(scene).await?,
            attempts.failed_since(scene, "RegistryUnreachable").await?,
        );
        Ok((retries > 0.0 || runs > 0).then(|| format!("{retries} batches and {runs} runs without it")))
    };
    let seen = scene.catch(WINDOW / 2, needed).await?;
    services::back(&scene.world.client, Store::Registry).await?;
    Ok(seen)
}

/// Breaks the network to a store for a while.
pub async fn network_broken(scene: &Scene, kind: Network, store: Store, dice: &mut Dice) -> Result<Option<String>> {
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

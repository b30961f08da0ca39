//! One leader, by Lease. A standby serves its health and reconciles nothing.

use std::{future::Future, time::Duration};

use kube::Client;
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder};
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// How long a leader that does not renew is believed to be alive.
const DURATION_SECONDS: u64 = 15;
/// How long before that it renews.
const GRACE_SECONDS: u64 = 5;
const STOP_WITHIN: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_secs(2);

/// Which Lease, and who asks for it.
#[derive(Clone, Debug)]
pub struct LeaseSettings {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Who this is among the candidates.
    pub identity: String,
}

/// Why leading ended without being asked to.
#[derive(Debug, thiserror::Error)]
pub enum LeaderError {
    /// Another instance has taken over, so this one must not go on.
    #[error("the lease was lost")]
    Lost,
    /// The task that renews the lease has ended.
    #[error("the lease is no longer renewed")]
    NotRenewed,
    /// What the leader runs has ended by itself.
    #[error("the controller ended by itself")]
    WorkEnded,
}

/// Waits to become the leader, then runs `work` until `shutdown`, or until the lease is lost.
pub async fn lead<W>(
    client: Client,
    settings: LeaseSettings,
    metrics: Metrics,
    shutdown: CancellationToken,
    work: impl FnOnce(CancellationToken) -> W,
) -> Result<(), LeaderError>
where
    W: Future<Output = ()> + Send + 'static,
{
    let Some(manager) = candidate(client, &settings, &shutdown).await else {
        return Ok(());
    };
    let (mut leads, renewing) = manager.watch().await;
    tracing::info!(identity = settings.identity, lease = settings.name, "waiting for the lease");
    loop {
        if *leads.borrow_and_update() {
            break;
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            changed = leads.changed() => changed.map_err(|_| LeaderError::NotRenewed)?,
        }
    }
    tracing::info!(identity = settings.identity, "leading");
    metrics.leads(true);

    let stop = shutdown.child_token();
    let mut working = tokio::spawn(work(stop.clone()));
    let result = tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        _ = &mut working => Err(LeaderError::WorkEnded),
        lost = leads.wait_for(|leads| !leads) => Err(lost.map_or(LeaderError::NotRenewed, |_| LeaderError::Lost)),
    };
    stop.cancel();
    if !working.is_finished() && tokio::time::timeout(STOP_WITHIN, &mut working).await.is_err() {
        working.abort();
    }
    metrics.leads(false);
    // Nobody listens any more: the manager gives the lease back, so that the next leader need not wait.
    drop(leads);
    let _ = tokio::time::timeout(STOP_WITHIN, renewing).await;
    result
}

/// A candidate for the lease; `None` when told to stop before the apiserver answered.
async fn candidate(client: Client, settings: &LeaseSettings, shutdown: &CancellationToken) -> Option<LeaseManager> {
    loop {
        let built = LeaseManagerBuilder::new(client.clone(), &settings.name)
            .with_namespace(&settings.namespace)
            .with_identity(&settings.identity)
            .with_duration(DURATION_SECONDS)
            .with_grace(GRACE_SECONDS)
            .build()
            .await;
        match built {
            Ok(manager) => return Some(manager),
            Err(error) => {
                tracing::warn!(%error, lease = settings.name, namespace = settings.namespace, "the lease cannot be read or made; trying again");
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return None,
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

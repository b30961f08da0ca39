//! Leader election by Lease. A standby serves its health and reconciles nothing.

use std::{future::Future, time::Duration};

use kube::Client;
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder};
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// The Lease expires this long after its last renewal.
const DURATION_SECONDS: u64 = 15;
/// The leader renews the Lease this long before it expires.
const GRACE_SECONDS: u64 = 5;
const STOP_WITHIN: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_secs(2);

#[derive(Clone, Debug)]
pub struct LeaseSettings {
    pub namespace: String,
    pub name: String,
    /// Of this candidate.
    pub identity: String,
}

/// Why leadership ended without a shutdown.
#[derive(Debug, thiserror::Error)]
pub enum LeaderError {
    /// Another instance leads, so this one must stop.
    #[error("the lease was lost to another instance")]
    Lost,
    #[error("the lease is no longer renewed")]
    NotRenewed,
    #[error("the controller ended unexpectedly")]
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
    // Without a receiver, the manager releases the lease, so that the next leader need not wait.
    drop(leads);
    let _ = tokio::time::timeout(STOP_WITHIN, renewing).await;
    result
}

/// A candidate for the lease; `None` after a shutdown before the apiserver answered.
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
                tracing::warn!(%error, lease = settings.name, namespace = settings.namespace, "cannot read or create the lease; retrying");
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return None,
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

//! Leader election by Lease. A standby serves its health and reconciles nothing.

mod election;
mod lease;

use std::{
    future::Future,
    time::{Duration, Instant},
};

use kube::Client;
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

pub use self::lease::LeaseSettings;
use self::lease::{Attempt, Candidate};
use crate::{health::Readiness, metrics::Metrics};

/// A leader that cannot renew stops before another candidate may lead: `renew_deadline + stop_within < duration`.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// The Lease expires this long after its last renewal.
    pub duration: Duration,
    /// The leader stops this long after its last renewal.
    pub renew_deadline: Duration,
    /// Between two attempts to acquire or renew.
    pub retry: Duration,
    /// Work that has not stopped within this time is aborted.
    pub stop_within: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry: Duration::from_secs(2),
            stop_within: Duration::from_secs(4),
        }
    }
}

/// Why leadership ended without a shutdown.
#[derive(Debug, thiserror::Error)]
pub enum LeaderError {
    /// Another instance leads, so this one must stop.
    #[error("the lease was lost to {0}")]
    Lost(String),
    #[error("the lease could not be renewed for {} s", .0.as_secs())]
    NotRenewed(Duration),
    #[error("the controller ended unexpectedly")]
    WorkEnded,
}

/// Waits to become the leader, then runs `work` until `shutdown`, or until the lease is lost. `health` receives whether the Lease
/// can be read and written.
pub async fn lead<W>(
    client: Client,
    settings: LeaseSettings,
    timing: Timing,
    metrics: Metrics,
    health: watch::Sender<Readiness>,
    shutdown: CancellationToken,
    work: impl FnOnce(CancellationToken) -> W,
) -> Result<(), LeaderError>
where
    W: Future<Output = ()> + Send + 'static,
{
    let identity = settings.identity.clone();
    tracing::info!(identity, lease = settings.name, "waiting for the lease");
    let mut elector = Elector {
        candidate: Candidate::new(client, settings, timing.duration),
        timing,
        health,
        last_answer: Instant::now(),
    };
    if !elector.acquire(&shutdown).await {
        return Ok(());
    }
    tracing::info!(identity, "leading");
    metrics.leads(true);

    let stop = shutdown.child_token();
    let mut working = tokio::spawn(work(stop.clone()));
    let result = tokio::select! {
        // First, because work ends with a shutdown.
        biased;
        () = shutdown.cancelled() => Ok(()),
        _ = &mut working => Err(LeaderError::WorkEnded),
        lost = elector.renew_until_lost() => Err(lost),
    };
    stop.cancel();
    if result.is_ok() {
        // The lease is renewed while work stops, and released then, so that the next leader need not wait.
        tokio::select! {
            () = finish(&mut working, timing.renew_deadline) => {}
            lost = elector.renew_until_lost() => tracing::warn!(%lost, "while stopping"),
        }
    }
    finish(&mut working, timing.stop_within).await;
    metrics.leads(false);
    if matches!(result, Ok(()) | Err(LeaderError::WorkEnded)) {
        elector.release().await;
    }
    result
}

/// Waits for work to end, and aborts it after `within`.
async fn finish(working: &mut JoinHandle<()>, within: Duration) {
    if !working.is_finished() && tokio::time::timeout(within, &mut *working).await.is_err() {
        working.abort();
    }
}

struct Elector {
    candidate: Candidate,
    timing: Timing,
    health: watch::Sender<Readiness>,
    /// When the apiserver last answered an attempt.
    last_answer: Instant,
}

impl Elector {
    /// Returns false at a shutdown. It waits for the answer to an attempt, because a Lease that is acquired must be released.
    async fn acquire(&mut self, shutdown: &CancellationToken) -> bool {
        while !shutdown.is_cancelled() {
            if self.attempt(self.timing.renew_deadline).await == Some(Attempt::Held) {
                return true;
            }
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = tokio::time::sleep(self.timing.retry) => {}
            }
        }
        false
    }

    async fn renew_until_lost(&mut self) -> LeaderError {
        loop {
            tokio::time::sleep(self.timing.retry.min(self.left())).await;
            let left = self.left();
            if left.is_zero() {
                let lost = LeaderError::NotRenewed(self.timing.renew_deadline);
                self.unready(lost.to_string());
                return lost;
            }
            if let Some(Attempt::HeldBy(holder)) = self.attempt(left).await {
                let lost = LeaderError::Lost(holder);
                self.unready(lost.to_string());
                return lost;
            }
        }
    }

    /// The time until the leader must have renewed its lease.
    fn left(&self) -> Duration {
        let since_renewal = self.candidate.renewed_at().map_or(Duration::MAX, |at| at.elapsed());
        self.timing.renew_deadline.saturating_sub(since_renewal)
    }

    /// `None` where the apiserver refuses, or does not answer within this time.
    async fn attempt(&mut self, within: Duration) -> Option<Attempt> {
        let error = match tokio::time::timeout(within, self.candidate.attempt()).await {
            Ok(Ok(attempt)) => {
                self.last_answer = Instant::now();
                self.health.send_if_modified(|health| std::mem::replace(health, Ok(())).is_err());
                return Some(attempt);
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {within:?}"),
        };
        tracing::warn!(error, "cannot read or write the lease; retrying");
        if self.last_answer.elapsed() >= self.timing.renew_deadline {
            self.unready(format!("cannot read or write the lease: {error}"));
        }
        None
    }

    fn unready(&self, reason: String) {
        drop(self.health.send_replace(Err(reason)));
    }

    async fn release(&self) {
        match tokio::time::timeout(self.timing.stop_within, self.candidate.release()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "cannot release the lease; it expires"),
            Err(_) => tracing::warn!("cannot release the lease in time; it expires"),
        }
    }
}

#[cfg(test)]
mod tests;

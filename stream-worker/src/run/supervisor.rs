//! A worker's life: it serves HTTP at once, consumes when all stores answer, restarts a session that fails, and ends on a
//! signal.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;
use userpipeline_runtime::StopSignals;

use super::{session::session, write::Store};
use crate::{back_off::back_off, context::WorkerContext, http, status::Trouble};

/// The worker has ended by then, whatever blocks: Kubernetes' own grace period is 30 seconds.
const GRACE: Duration = Duration::from_secs(28);
/// A session that lasted this long resets the back-off.
const STABLE: Duration = Duration::from_secs(60);

/// Runs a worker until SIGTERM or SIGINT.
pub async fn run(context: Arc<WorkerContext>, listen: SocketAddr) -> std::io::Result<()> {
    for store in Store::all() {
        context.metrics.expect_retries(store.name());
    }
    let stop = CancellationToken::new();
    let mut signals = StopSignals::register()?;
    // It serves on while the worker drains.
    http::listen(listen, Arc::clone(&context))?;
    tracing::info!(%listen, instance = context.instance, group = context.pipeline.group_id, topic = context.pipeline.topic, "started");
    let mut working = std::pin::pin!(sessions(&context, &stop));
    tokio::select! {
        () = &mut working => return Ok(()),
        () = signals.received() => {}
    }
    tracing::info!("stopping");
    stop.cancel();
    if tokio::time::timeout(GRACE, working).await.is_err() {
        tracing::warn!("something hangs: ending without it");
    }
    tracing::info!("ended");
    Ok(())
}

/// One session after the other, until `stop`.
async fn sessions(context: &Arc<WorkerContext>, stop: &CancellationToken) {
    let mut back_off = back_off();
    loop {
        let started = Instant::now();
        let result = Box::pin(session(context, stop)).await;
        context.status.consuming(false);
        let error = match result {
            Ok(()) if stop.is_cancelled() => return,
            Ok(()) => continue,
            Err(error) => error,
        };
        context.status.trouble(Trouble::Session, &error);
        if started.elapsed() > STABLE {
            back_off.reset();
        }
        let wait = back_off.next_delay();
        tracing::warn!(reason = error.reason, message = error.message, wait = ?wait, "not consuming");
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

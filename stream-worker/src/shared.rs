//! What all parts of the worker know.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use scylla::client::session::Session;
use userpipeline_api::document::WorkerPipeline;
use userpipeline_record::RecordSchema;
use userpipeline_stores::Secrets;

use crate::{metrics::Metrics, report::Status};

/// A thread that did not show for so long hangs: longer than anything it waits for.
const HANGS: Duration = Duration::from_secs(120);

/// What all parts of the worker know.
pub struct Shared {
    /// What to do.
    pub pipeline: WorkerPipeline,
    /// What a record is.
    pub schema: RecordSchema,
    /// The Secrets.
    pub secrets: Secrets,
    /// This worker's name, as brokers and databases see it.
    pub instance: String,
    /// What is known of the worker.
    pub status: Status,
    /// What is counted.
    pub metrics: Metrics,
    /// Whether the polling thread is alive.
    pub heartbeat: Heartbeat,
    session: Mutex<Option<Arc<Session>>>,
}

impl Shared {
    /// A worker that knows its pipeline and nothing else.
    pub fn new(pipeline: WorkerPipeline, schema: RecordSchema, secrets: Secrets, instance: &str) -> Self {
        Self {
            pipeline,
            schema,
            secrets,
            instance: format!("stream-worker {instance}"),
            status: Status::default(),
            metrics: Metrics::new(),
            heartbeat: Heartbeat::default(),
            session: Mutex::default(),
        }
    }

    /// The writer's session with Cassandra, while there is one.
    pub fn session(&self) -> Option<Arc<Session>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The writer opened or closed its session.
    pub fn share_session(&self, session: Option<Arc<Session>>) {
        *self.session.lock().unwrap_or_else(PoisonError::into_inner) = session;
    }
}

/// When the polling thread was last seen.
#[derive(Debug)]
pub struct Heartbeat {
    started: Instant,
    /// Milliseconds since the start, plus one; 0 while there is no thread.
    last: AtomicU64,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            last: AtomicU64::new(0),
        }
    }
}

impl Heartbeat {
    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis())
            .unwrap_or(u64::MAX)
            .saturating_add(1)
    }

    /// The thread is alive.
    pub fn beat(&self) {
        self.last.store(self.now(), Ordering::Relaxed);
    }

    /// There is no thread any more.
    pub fn rest(&self) {
        self.last.store(0, Ordering::Relaxed);
    }

    /// Whether the thread was seen lately, if there is one.
    pub fn is_alive(&self) -> bool {
        let last = self.last.load(Ordering::Relaxed);
        last == 0 || u128::from(self.now().saturating_sub(last)) < HANGS.as_millis()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_alive_without_a_thread_and_while_it_is_seen() {
        let mut heartbeat = Heartbeat::default();
        assert!(heartbeat.is_alive());
        heartbeat.beat();
        assert!(heartbeat.is_alive());
        heartbeat.started = Instant::now().checked_sub(HANGS * 2).unwrap();
        assert!(!heartbeat.is_alive());
        heartbeat.rest();
        assert!(heartbeat.is_alive());
    }
}

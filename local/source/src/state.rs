//! What the handlers share.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{book::Books, fault::Faults, limit::Limit};

/// How the server behaves.
#[derive(Debug, Clone)]
pub struct Config {
    /// Users per client address and window; 0 is no limit.
    pub limit_users: u64,
    /// The length of a window.
    pub limit_window: Duration,
    /// The longest that a request hangs.
    pub hang_cap: Duration,
    /// Requests for users at a time, hanging ones included; one more is answered 503.
    pub max_in_flight: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            limit_users: 20_000,
            limit_window: Duration::from_secs(300),
            hang_cap: Duration::from_secs(600),
            max_in_flight: 256,
        }
    }
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) hang_cap: Duration,
    pub(crate) stop: CancellationToken,
    /// Bounds requests.
    pub(crate) in_flight: Semaphore,
    /// Bounds pages in the making, which cost processor and memory.
    pub(crate) making: Arc<Semaphore>,
    started: Instant,
    limit: Mutex<Limit>,
    faults: Mutex<Faults>,
    books: Mutex<Books>,
}

impl State {
    pub(crate) fn new(config: &Config, stop: CancellationToken) -> Arc<Self> {
        let processors = std::thread::available_parallelism().map_or(2, usize::from);
        Arc::new(Self {
            hang_cap: config.hang_cap,
            stop,
            in_flight: Semaphore::new(config.max_in_flight),
            making: Arc::new(Semaphore::new(processors)),
            started: Instant::now(),
            limit: Mutex::new(Limit::new(config.limit_users, config.limit_window)),
            faults: Mutex::default(),
            books: Mutex::default(),
        })
    }

    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn limit(&self) -> MutexGuard<'_, Limit> {
        self.limit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

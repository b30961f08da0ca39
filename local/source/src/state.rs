//! State that the handlers share.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{fault::Faults, rate_limit::RateLimit, request_log::RequestLog};

#[derive(Debug, Clone)]
pub struct Config {
    /// Users per client address and window; 0 is no limit.
    pub limit_users: u64,
    pub limit_window: Duration,
    /// Upper bound of the fault `hang`.
    pub hang_cap: Duration,
    /// Concurrent requests for users, hanging ones included; one more is answered 503.
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
    pub(crate) in_flight: Semaphore,
    /// Limits the pages that are generated at the same time, which cost CPU and memory.
    pub(crate) generating: Arc<Semaphore>,
    started: Instant,
    rate_limit: Mutex<RateLimit>,
    faults: Mutex<Faults>,
    request_log: Mutex<RequestLog>,
}

impl State {
    pub(crate) fn new(config: &Config, stop: CancellationToken) -> Arc<Self> {
        let processors = std::thread::available_parallelism().map_or(2, usize::from);
        Arc::new(Self {
            hang_cap: config.hang_cap,
            stop,
            in_flight: Semaphore::new(config.max_in_flight),
            generating: Arc::new(Semaphore::new(processors)),
            started: Instant::now(),
            rate_limit: Mutex::new(RateLimit::new(config.limit_users, config.limit_window)),
            faults: Mutex::default(),
            request_log: Mutex::default(),
        })
    }

    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn rate_limit(&self) -> MutexGuard<'_, RateLimit> {
        self.rate_limit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn request_log(&self) -> MutexGuard<'_, RequestLog> {
        self.request_log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! Logs as JSON lines on the standard output.

use tracing_subscriber::EnvFilter;

/// `filter` applies where the environment variable `RUST_LOG` has none.
pub fn init_logs(filter: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(filter));
    tracing_subscriber::fmt()
        .json()
        .with_env_filter(filter)
        .flatten_event(true)
        .with_span_list(false)
        .init();
}

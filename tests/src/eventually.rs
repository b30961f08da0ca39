//! Waiting for something to become so.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

const PAUSE: Duration = Duration::from_millis(300);

/// Looks until `probe` gives a value, and fails with the last thing it saw when `within` is over. An error of the probe
/// counts as "not yet": stores are down on purpose in some stories.
pub async fn eventually<T, F>(what: &str, within: Duration, mut probe: F) -> Result<T>
where
    F: AsyncFnMut() -> Result<Result<T, String>>,
{
    let start = Instant::now();
    loop {
        let seen = match probe().await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(seen)) => seen,
            Err(error) => format!("error: {error:#}"),
        };
        if start.elapsed() > within {
            return Err(anyhow!("waited {within:?} for: {what}; last seen: {seen}"));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

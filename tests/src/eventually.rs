//! Waits for a condition.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

const PAUSE: Duration = Duration::from_millis(300);

/// Polls `probe` until it returns a value. After `within` it fails with the last observation. An error of the probe counts as "not
/// yet", because some tests stop stores.
pub async fn eventually<T, F>(what: &str, within: Duration, mut probe: F) -> Result<T>
where
    F: AsyncFnMut() -> Result<Result<T, String>>,
{
    let start = Instant::now();
    loop {
        let observed = match probe().await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(observed)) => observed,
            Err(error) => format!("error: {error:#}"),
        };
        if start.elapsed() > within {
            return Err(anyhow!("waited {within:?} for: {what}; last observed: {observed}"));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

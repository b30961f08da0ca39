//! Notices changes of mounted files.

use std::time::Duration;

use super::{material::Fingerprint, wire::Wire};

const EVERY: Duration = Duration::from_secs(10);

/// Returns when the files of a connection differ from what it was opened with.
pub async fn rotated(wire: &Wire, since: &Fingerprint) {
    loop {
        tokio::time::sleep(EVERY).await;
        if wire.is_rotated(since) {
            return;
        }
    }
}

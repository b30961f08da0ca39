//! What the polling thread receives.

use std::collections::BTreeMap;

use userpipeline_stores::StoreError;

use super::start_offset::Start;
use crate::run::batch::BatchOutcome;

pub enum Event {
    /// Partitions were taken over, or could not be. The request's number identifies a late answer.
    TakenOver(u64, Result<Vec<(i32, Start)>, StoreError>),
    /// A writer, by its number, has written its batch.
    Written(usize, BatchOutcome),
    /// Offsets were committed, or could not be.
    Committed(BTreeMap<i32, i64>, bool),
    /// An empty queue has messages.
    Fetched,
    /// The session is over: leave the group.
    End(StoreError),
}

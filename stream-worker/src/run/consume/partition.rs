//! An assigned partition.

use std::time::Instant;

use uuid::Uuid;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Active,
    /// Its next messages were deleted.
    Stuck,
    /// Another worker took it over, at this moment.
    Fenced(Instant),
}

#[derive(Clone, Copy, Debug)]
pub struct Assigned {
    /// The owner token that took it over.
    pub token: Uuid,
    /// The next offset to come.
    pub position: i64,
    /// Whether the broker reported that everything was delivered.
    pub at_end: bool,
    /// Whether it was reported to the status that nothing more was fetched, and whether that is the end.
    pub is_reported: bool,
    pub state: State,
}

impl Assigned {
    pub const fn new(token: Uuid, position: i64, state: State) -> Self {
        Self {
            token,
            position,
            at_end: false,
            is_reported: false,
            state,
        }
    }
}

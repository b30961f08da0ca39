//! Decisions from what was observed and recorded. Pure: `(input, now) -> Decision`; stored state is only in the arguments.

pub mod conflict;
pub mod connection_rollout;
mod created_objects;
mod decisions;
mod deletable_topics;
pub mod deletion;
pub mod drain;
pub mod held_jobs;
pub mod kafka_user;
pub mod roll_out;
pub mod schedule;
pub mod schema;
mod store_identities;
pub mod topics;
pub mod upgrade;

pub use self::{
    conflict::ResourceIndex,
    created_objects::created_objects,
    decisions::{Decisions, decide},
    deletable_topics::DeletableTopics,
};

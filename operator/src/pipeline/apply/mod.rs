//! Applies the desired children, and deletes those that are no longer desired. The only writer of children.

mod applier;
mod deletion;
mod drift;
mod error;
mod finalizer;
mod held_jobs;
mod kafka_topics;
mod kafka_users;
mod overrides;
mod runs;
mod sequence;
mod stale_config_maps;

pub use self::{
    applier::{Applier, was_applied},
    error::{ApplyError, is_namespace_terminating},
    overrides::{Override, Overrides},
    sequence::{Applied, apply},
};

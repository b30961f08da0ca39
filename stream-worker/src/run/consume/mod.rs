//! The consumer: a thread of its own that polls, so that a worker that waits for a store stays in its group.
//!
//! It hands one batch at a time to each writer and gathers the next ones meanwhile. When these are full too, nothing more is taken
//! from the partitions' queues, librdkafka fetches no more than these hold, and polling continues.

mod assignments;
mod buffer;
mod committer;
mod event;
mod fetcher;
mod group;
mod hand_over;
mod offsets;
mod partition;
mod poller;
mod queues;
mod rebalance;
mod start;
mod start_offset;
mod take_over;

pub use self::{event::Event, offsets::ends, rebalance::Consumer, start::start};

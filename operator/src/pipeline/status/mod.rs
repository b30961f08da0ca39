//! The status: conditions and Events from what was applied and observed (pure), and the one writer of both.

mod conditions;
mod deletion;
mod event;
mod event_publisher;
mod event_reason;
mod fresh;
mod measure;
mod modified;
mod pipeline_status;
mod run_events;
mod sample;
mod status_cache;
mod status_writer;
mod topic;
mod verdict;
mod workers;

pub use self::{
    deletion::deletion_status,
    event_publisher::EventPublisher,
    event_reason::Reason,
    measure::MEASURE_EVERY,
    pipeline_status::{pipeline_status, requeue_after},
    sample::pipeline_sample,
    status_writer::{StatusWriter, WriteError},
    verdict::Verdict,
};

#[cfg(test)]
mod tests;

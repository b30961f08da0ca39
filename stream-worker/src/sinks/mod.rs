//! The stores that records are written to: a folder each, behind the trait `Sink`.

pub mod cassandra;
pub mod columns;
mod list;
pub mod postgres;
mod sink;

pub use self::{
    list::ALL,
    sink::{ActiveSink, Arbiter, Expiry, HealthCheck, SchemaTask, Sink, SinkWriter, WriteOutcome},
};

//! Writes a batch: dead letters to their topic, records to all sinks concurrently, progress with them; all or nothing, as
//! often as it takes.
//!
//! With an external producer, PostgreSQL is written first, because it decides versions.
//!
//! A record that PostgreSQL refuses may already be in Cassandra, which is written at the same time; it becomes a dead letter
//! nevertheless, and a fixed version that is redriven will be newer. A record that Cassandra refuses is never in PostgreSQL:
//! the transaction is rolled back and repeated without it.

mod account;
mod attempt;
mod breaker;
mod failure;
mod stores;
mod work;
mod writer;

pub use self::{failure::Store, stores::Stores, writer::Writer};

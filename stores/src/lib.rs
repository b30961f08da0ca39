//! Clients made from a resource: Kafka, the schema registry, PostgreSQL, Cassandra; their credentials, and what an error
//! of theirs means.

pub mod cassandra;
pub mod cell;
pub mod error;
pub mod kafka;
pub mod postgres;
pub mod schema_registry;
pub mod secrets;

pub use error::{Class, StoreError};
pub use secrets::{Credentials, Secrets};

//! Clients of Kafka, the schema registry, PostgreSQL and Cassandra, each made from a `Connection`; credentials, and what
//! their errors mean.

pub mod cassandra;
pub mod error;
pub mod http;
pub mod kafka;
pub mod postgres;
pub mod schema_registry;
pub mod secrets;
pub mod tls;
pub mod wire;

pub use error::{Class, StoreError};
pub use secrets::{Credentials, Secrets};

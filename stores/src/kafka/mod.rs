//! Kafka: connections, admin, producer and errors.

pub mod admin;
mod connection;
pub mod errors;
mod native;
pub mod producer;

pub use self::{connection::Connection, native::headers};

//! Kafka: connections, admin, producer and errors.

pub mod admin;
mod connection;
pub mod errors;
mod native;
pub mod producer;
mod refusal;

pub use self::{connection::Connection, native::headers, refusal::Reporter};

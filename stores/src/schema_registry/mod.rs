//! A schema registry with Confluent's API.

mod address;
mod client;
mod connection;
mod refusal;

pub use self::{address::same_registry, client::SchemaRegistry, connection::Connection};

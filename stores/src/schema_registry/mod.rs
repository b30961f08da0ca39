//! A schema registry with Confluent's API.

mod client;
mod connection;

pub use self::{client::SchemaRegistry, connection::Connection};

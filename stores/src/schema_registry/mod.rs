//! A schema registry with Confluent's API.

mod client;
mod connection;
mod refusal;

pub use self::{client::SchemaRegistry, connection::Connection};

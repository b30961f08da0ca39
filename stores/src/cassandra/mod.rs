//! Cassandra: sessions and errors.

mod connection;
mod errors;

pub use self::{
    connection::Connection,
    errors::{explain, explain_prepare, record_fault},
};

//! Cassandra: sessions and errors.

mod connection;
mod errors;

pub use self::{
    connection::Connection,
    errors::{CASSANDRA_FAILED, CASSANDRA_UNREACHABLE, explain, explain_prepare, may_be_refused, record_fault},
};

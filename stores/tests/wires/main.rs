//! Encrypted connections: what is accepted, and what is refused with which reason. Tests that are ignored by default need the
//! local cluster: `make test` runs them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cassandra;
mod certificates;
mod kafka;
mod local;
mod mounted;
mod postgres;
mod postgres_server;
mod refused;
mod registry;
mod registry_server;
mod sessions;
mod spec;

//! Encrypted connections: what is accepted, and what is refused with which reason.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod certificates;
mod mounted;
mod postgres;
mod postgres_server;
mod refused;
mod registry;
mod registry_server;

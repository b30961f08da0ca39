//! Landing in a real PostgreSQL. The tests need the local cluster: `make test` runs them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod filter;
mod model;
mod pipeline;
mod server;
mod versions;

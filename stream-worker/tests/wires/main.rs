//! Versions of external producers' messages, and totals, in a real PostgreSQL. The tests need the local cluster: `make test` runs them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cuts;
mod proxy;
mod store;
mod versions;

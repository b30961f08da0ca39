//! Versions of external producers' messages in real stores. The tests need the local cluster: `make test` runs them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod stores;
mod versions;

//! Proofs about encrypted connections that take minutes or need the network for themselves: `make test-encryption`.

mod accounts;
mod broker;
mod capture;
mod expired;
mod rotation;

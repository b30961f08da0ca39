//! Proofs about encrypted connections that take minutes or need the network for themselves: `make test-encryption`.

mod accounts;
mod authorities;
mod broker;
mod capture;
mod expired;
mod load;
mod rotation;

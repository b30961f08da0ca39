//! What a connection to a store reads from mounted files: certificates, passwords, tokens; its TLS configuration; and what
//! failed handshakes mean.

mod client_config;
pub mod handshake;
mod material;
mod problem;
mod rotation;
mod verifier;
#[allow(clippy::module_inception)]
mod wire;

pub use self::{
    client_config::{Verification, client_config},
    material::{Fingerprint, Material},
    problem::TlsProblem,
    rotation::rotated,
    wire::{Wire, place},
};

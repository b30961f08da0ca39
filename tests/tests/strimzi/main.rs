//! The stand-in for Strimzi does what was observed on a real one. All of these share one version of its definitions.

mod definitions;
mod topics;
mod users;

//! The controller of `UserPipelineConnection`: it finds Strimzi's listeners, checks connections, and writes their status and Events. What
//! else a connection does is part of its pipelines.

mod authorities;
mod authorities_config_map;
mod check;
mod checker;
mod controller;
mod event;
mod found;
mod listener;
mod slots;
mod status;
mod subject;
#[cfg(test)]
mod tests;

pub use self::controller::{Context, run};

//! The controller of `UserPipelineConnection`: it checks connections, and writes their status and Events. What else a connection
//! does is part of its pipelines.

mod check;
mod checker;
mod controller;
mod event;
mod slots;
mod status;
mod subject;
#[cfg(test)]
mod tests;

pub use self::controller::{Context, run};

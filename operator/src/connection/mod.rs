//! The controller of `UserPipelineConnection`: it writes the status. What a connection does is part of its pipelines.

mod controller;
mod status;

pub use self::controller::{Context, run};

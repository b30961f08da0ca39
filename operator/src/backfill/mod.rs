//! The controller of `UserPipelineBackfill`.

mod controller;
mod decide;
mod obstacle;
mod status;

pub use self::controller::{Context, run};

#[cfg(test)]
mod tests;

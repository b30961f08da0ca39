//! The stand-in for Strimzi does what was observed on a real one, and pipelines use it. All of these share one version of its definitions.

mod definitions;
mod guide;
mod pipelines;
mod story;
mod topics;
mod users;

//! What would change if a pipeline were applied: the reconcile itself, with a client that turns every write into a dry run.

mod connections;
mod diff;
mod documents;
mod dry_run_apply;
mod dry_run_client;
mod error;
mod fill_caches;
mod hosts;
mod planner;
mod schema_dry_run;
mod users;

pub use self::{
    connections::{PlannedConnections, connections},
    diff::Change,
    documents::{Documents, documents},
    error::PlanError,
    hosts::host,
    planner::{Plan, SchemaDryRun, plan},
    users::{MANAGER, users},
};

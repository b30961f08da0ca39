//! The controller of `UserPipeline`. Start with `reconcile.rs`.

mod apply;
mod cache;
mod caches;
mod children;
mod connection_turn;
mod connections;
mod context;
mod controller;
mod decide;
mod deletion;
mod desired;
#[cfg(test)]
mod example;
mod kafka_user_turn;
mod model;
mod observe;
pub mod plan;
mod reconcile;
mod reconcile_back_off;
mod reconcile_error;
mod status;
mod task;
#[cfg(test)]
pub(crate) mod tests;
mod topics_turn;
mod unreadable;
mod upgrade_turn;
mod validate;

#[cfg(test)]
pub(crate) use self::example::{installation as example_installation, pipeline as example};
/// For back-fills, which start runs of pipelines, and for connections, which pipelines use.
pub(crate) use self::{
    apply::{Applier, ApplyError, Overrides},
    cache::{CachedConnection, CachedPipeline},
    connections::{AUTHORITIES_KEY, ConnectionUses, valid_spec, with_listener},
    decide::schedule::{History, NewRun},
    desired::{authorities_config_map, backfill_job, check_objects},
    model::{ConnectionId, Owner, PodConfig, Problem, connection_id, has_name, labels, owner_reference, whole_seconds},
    observe::{CheckChildren, Observed, Progress, RunJob, TaskJob, authorities_of, backfill_runs, pods::controller, run_problem},
    status::{EventPublisher, Verdict},
    task::{Delete, State, TaskRecord, advance},
};
pub use self::{
    caches::{Caches, Writers},
    context::Context,
    controller::run,
    model::{Images, Installation, PodMetadata},
    observe::RefusedPods,
    validate::{read_pod_settings, schema_hash},
};

//! The desired children of a [`ValidatedPipeline`](super::validate::ValidatedPipeline), a file per kind. No client.

mod backfill_job;
mod config_map;
mod connection;
mod cron_job;
mod deletion_job;
mod deployment;
mod drain_job;
mod ingest_job;
mod inspection_job;
mod kafka_topic;
mod kafka_user;
mod objects;
mod plan_job;
mod pod;
mod pod_disruption_budget;
mod schema_job;
mod service_account;
mod settings;
mod task_job;

pub use self::{
    backfill_job::backfill_job,
    connection::{authorities_config_map, check_objects},
    objects::{Desired, deletion_account, deletion_objects, desired},
    plan_job::plan_objects,
};

#[cfg(test)]
mod tests;

//! What there is of a pipeline. Reading (`reading`, `replica_sets`, `worker_status`) is IO; interpreting what was read is pure.

mod check_jobs;
mod container_end;
mod foreign;
mod jobs;
mod kafka_users;
mod observed;
pub mod pods;
mod reading;
mod refusals;
mod refused_pods;
mod replica_sets;
mod run_jobs;
mod scaled;
mod task_jobs;
mod worker_status;
mod workers;

pub use self::{
    check_jobs::{CheckChildren, authorities_of},
    container_end::ContainerEnd,
    foreign::ForeignField,
    jobs::{held_open, job_end},
    kafka_users::{KafkaUsers, LiveUser, has_acls, kafka_users, mounted_secrets},
    observed::{Observed, is_of_component},
    reading::observe,
    refused_pods::RefusedPods,
    replica_sets::ReplicaSets,
    run_jobs::{RunJob, backfill_runs, run_jobs, run_problem, run_problem_after, run_report, unfinished_runs},
    scaled::Scalers,
    task_jobs::{Progress, TaskJob, deletion_jobs, drain_jobs, inspection_jobs, is_deletion_job, schema_jobs},
    worker_status::WorkerClient,
    workers::{
        current_pod_configs, has_other_workers, is_available, is_behind_spec, is_rolled_out, is_rolling_out, rolling_out, workers_left,
    },
};

//! What there is of a pipeline. Reading (`observed`, `worker_status`) is IO; interpreting what was read is pure.

mod foreign;
mod jobs;
mod observed;
pub mod pods;
mod run_jobs;
mod task_jobs;
mod worker_status;
mod workers;

pub use self::{
    foreign::ForeignField,
    jobs::job_end,
    observed::{Observed, observe},
    run_jobs::{RunJob, run_jobs, run_report, unfinished_runs},
    task_jobs::{Progress, TaskJob, deletion_jobs, drain_jobs, is_deletion_job, schema_jobs},
    worker_status::WorkerClient,
    workers::{current_pod_configs, has_other_image, is_behind_spec, is_rolled_out, is_rolling_out, rolling_out, workers_left},
};

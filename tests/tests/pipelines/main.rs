//! Tests of pipelines in a healthy cluster. Each has its own namespace, so they run in parallel.

mod admission;
mod autoscaling;
mod backfills;
mod data;
mod dead_letters;
mod deletions;
mod every_type;
mod existing_tables;
mod gitops;
mod guides;
mod hostile;
mod keys;
mod mistakes;
mod observability;
mod operations;
mod plans;
mod quotas;
mod records;
mod retention;
mod runs;
mod schedules;
mod sidecars;
mod sizes;
mod sources;
mod topics;
mod versions;

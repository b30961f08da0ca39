//! Stories of a pipeline in a healthy cluster. Each has a namespace of its own, so they run side by side.

mod autoscaling;
mod backfills;
mod data;
mod dead_letters;
mod deletions;
mod every_type;
mod guides;
mod hostile;
mod keys;
mod mistakes;
mod operations;
mod own_tables;
mod plans;
mod records;
mod retention;
mod runs;
mod schedules;
mod seen;
mod sizes;
mod sources;
mod topics;
mod versions;

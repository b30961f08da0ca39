//! Stories of a pipeline in a healthy cluster. Each has a namespace of its own, so they run side by side.

mod backfills;
mod data;
mod deletions;
mod mistakes;
mod operations;
mod runs;
mod schedules;

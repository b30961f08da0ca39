//! The state machine of Jobs that perform a task once: apply a schema, verify a drain, delete data. Pure.
//!
//! How a Job ended is recorded in the status first; the Job is deleted only when the status that is read back has the record.
//! A crash or a stale cache between the two repeats a harmless step. While any Job of the task exists, no other is created.

mod back_off;
mod record;
mod step;

pub use self::{
    record::TaskRecord,
    step::{Delete, State, Step, advance},
};

#[cfg(test)]
mod tests;

//! The states of a record on its way: a message of the topic, a record with its version, a write to the sinks. A message
//! that never becomes a write has a fault.

mod fault;
mod message;
mod write;

pub use self::{
    fault::{Faults, RecordFault},
    message::{Header, Message},
    write::{Stored, VersionedRecord, Write},
};

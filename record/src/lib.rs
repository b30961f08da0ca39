//! A record's schema as data, and what follows from it: the mapping from JSON, Avro, and the tables of PostgreSQL and
//! Cassandra. Pure: no client and no IO.

pub mod avro;
pub mod bookkeeping;
pub mod cassandra;
pub mod map;
pub mod postgres;
pub mod trace;
pub mod value;
pub mod wire;

mod declared;
mod expression;
#[cfg(test)]
mod samples;
mod schema;

pub use declared::Problem;
pub use expression::{Expression, Item};
pub use map::{Reject, Said};
pub use schema::{Field, Origin, RecordSchema};
pub use userpipeline_api::FieldType;
pub use value::{Record, Value};

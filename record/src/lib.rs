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
mod pointer;
#[cfg(test)]
mod samples;
mod schema;
mod weight;

pub use declared::Problem;
pub use expression::Expression;
pub use map::{Reject, Said};
pub use pointer::raw_at;
pub use schema::{Field, Origin, RecordSchema};
pub use userpipeline_api::FieldType;
pub use value::{Record, Value};
pub use weight::check_weight;

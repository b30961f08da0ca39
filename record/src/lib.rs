//! A record's schema as data, and what follows from it: the mapping from JSON, Avro, and the tables of PostgreSQL and
//! Cassandra. Pure: no client and no IO.

pub mod avro;
pub mod bookkeeping;
pub mod cassandra;
pub mod map;
pub mod postgres;
pub mod schema;
pub mod value;
pub mod wire;

pub use map::Reject;
pub use schema::{Field, FieldType, Origin, RecordSchema};
pub use value::{Record, Value};

//! The schema of a record as data, and what derives from it: mapping from JSON, Avro, and the tables of PostgreSQL and
//! Cassandra. Pure: no client and no IO.

pub mod aggregate;
mod arbitration;
pub mod avro;
pub mod bookkeeping;
pub mod cassandra;
mod convert;
mod key;
pub mod map;
pub mod message;
pub mod postgres;
pub mod time;
mod time_form;
pub mod trace;
pub mod value;

mod cel;
mod declared;
mod elements;
mod item;
mod json_number;
mod mask;
mod members;
mod outline;
mod pointer;
mod raw_form;
#[cfg(test)]
mod samples;
mod scalar;
mod scan;
mod schema;
mod weight;

pub use self::{
    arbitration::{Rank, next_version},
    cel::{Expression, Filter, Reads},
};
pub use declared::Problem;
pub use elements::elements;
pub use item::parse_item;
pub use map::{FILTER_INVALID, Mapped, Reject};
pub use mask::Mask;
pub use members::Members;
pub use outline::{Outline, OutlineValue, parts};
pub use pointer::{raw_at, raw_within};
pub use raw_form::RawForm;
pub use schema::{Field, Origin, RecordSchema};
pub use userpipeline_api::FieldType;
pub use value::{Record, Value};
pub use weight::{check_weight, weight};

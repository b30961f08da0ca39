//! PostgreSQL: connections, values and errors.

mod connection;
mod copy;
mod deadline;
mod errors;
mod refusal;
mod value;

pub use self::{
    connection::{Connection, KEEPALIVE},
    copy::{CopyError, CopyRows},
    deadline::answered,
    errors::{explain, is_record_fault},
    value::{PgParam, PgValue, RawJson, landing_type},
};

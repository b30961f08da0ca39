//! A record in PostgreSQL: tables and statements.
//!
//! Internal columns start with `_`, which the names of fields cannot.

mod column;
mod landing;
mod landing_filter;
mod quoting;
mod sink;
pub mod totals;

pub use self::{
    column::{column_type, landing_type},
    quoting::{literal, quote},
};
use crate::{Field, RecordSchema};

/// In microseconds since 1970. With `orderBy`, the value of its field, and greater where that does not increase.
pub const VERSION: &str = "_version";
/// The value of `orderBy` at the precision served: a number, or nanoseconds since 1970. Null in rows of an earlier version.
pub const ORDER_BY: &str = "_order_by";
/// The number of the request whose response had the landed content. Null in rows of an earlier version.
pub const REQUEST: &str = "_request";
/// Partition and offset of the message that a row of the sink table has, with `source.topic`. Null in rows of an earlier version.
pub const PARTITION: &str = "_partition";
pub const OFFSET: &str = "_offset";
pub const DELETED: &str = "_deleted";
/// Whether the landed record does not pass `spec.record.where`.
pub const FILTERED: &str = "_filtered";
/// The run that landed a row.
pub const RUN_ID: &str = "_run_id";
/// In the result of [`RecordSchema::pending_select`]: the time of landing, in milliseconds since 1970.
pub const FETCHED_MILLIS: &str = "_fetched_millis";

/// Name and type, as in `information_schema.columns` (`udt_name`).
pub type Column = (String, &'static str);

/// The columns that the pipeline adds to both the landing and the sink table.
fn added_columns() -> [Column; 2] {
    [(VERSION.to_owned(), "int8"), ("_ingested_at".to_owned(), "timestamptz")]
}

impl RecordSchema {
    /// `definition` starts with the type.
    fn column_definitions(&self, definition: impl Fn(&Field) -> String) -> String {
        let definition = |f: &Field| format!("{} {}", quote(&f.name), definition(f));
        self.fields.iter().map(definition).collect::<Vec<_>>().join(", ")
    }

    /// In the schema's order.
    pub fn columns(&self) -> String {
        self.fields.iter().map(|f| quote(&f.name)).collect::<Vec<_>>().join(", ")
    }

    pub fn key_columns(&self) -> String {
        self.key.iter().map(|name| quote(name)).collect::<Vec<_>>().join(", ")
    }

    /// Parameters: an array per key column, and the array of versions.
    fn key_arrays(&self) -> String {
        let arrays = self.key_positions().enumerate();
        let mut arrays: Vec<String> = arrays
            .map(|(i, position)| format!("${}::{}[]", i + 1, column_type(self.fields[position].field_type)))
            .collect();
        arrays.push(format!("${}::bigint[]", arrays.len() + 1));
        arrays.join(", ")
    }

    fn same_key(&self, other: &str) -> String {
        let same = self
            .key
            .iter()
            .map(|name| quote(name))
            .map(|name| format!("t.{name} = {other}.{name}"));
        same.collect::<Vec<_>>().join(" AND ")
    }

    /// Assigns all columns except the key's; ends with a comma.
    fn take_excluded(&self) -> String {
        let others = self.fields.iter().filter(|f| !self.is_key(f)).map(|f| quote(&f.name));
        others
            .map(|name| format!("{name} = excluded.{name}, "))
            .collect::<Vec<_>>()
            .concat()
    }
}

#[cfg(test)]
mod tests;

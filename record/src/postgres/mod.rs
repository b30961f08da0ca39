//! A record in PostgreSQL: tables, and the statements that fill them.
//!
//! Columns of ours start with `_`, so that no field of a record meets them.

mod column;
mod landing;
mod quoting;
mod sink;

pub use self::{
    column::{column_type, landing_type},
    quoting::quote,
};
use crate::{Field, RecordSchema};

/// The version of a record, in microseconds.
pub const VERSION: &str = "_version";

/// A column and its type, as `information_schema.columns` writes the type (`udt_name`).
pub type Column = (String, &'static str);

/// The columns that both tables have beside the fields.
fn bookkeeping_columns() -> [Column; 2] {
    [(VERSION.to_owned(), "int8"), ("_ingested_at".to_owned(), "timestamptz")]
}

impl RecordSchema {
    /// Each field with what `definition` says of it, its type first.
    fn column_definitions(&self, definition: impl Fn(&Field) -> String) -> String {
        let definition = |f: &Field| format!("{} {}", quote(&f.name), definition(f));
        self.fields.iter().map(definition).collect::<Vec<_>>().join(", ")
    }

    /// The fields as a list of columns, in the schema's order.
    pub fn columns(&self) -> String {
        self.fields.iter().map(|f| quote(&f.name)).collect::<Vec<_>>().join(", ")
    }

    /// The key as a list of columns.
    pub fn key_columns(&self) -> String {
        self.key.iter().map(|name| quote(name)).collect::<Vec<_>>().join(", ")
    }

    /// An array per key column, and the array of versions.
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

    /// The assignments of all columns but the key's, each with a comma behind it.
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

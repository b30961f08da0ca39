//! A record in PostgreSQL: tables, and the statements that fill them.
//!
//! Columns of ours start with `_`, so that no field of a record meets them.

use crate::{FieldType, RecordSchema};

/// The version of a record, in microseconds.
pub const VERSION: &str = "_version";

impl FieldType {
    /// The column's type.
    pub const fn postgres(self) -> &'static str {
        match self {
            Self::String => "text",
            Self::Uuid => "uuid",
            Self::Timestamp => "timestamptz",
        }
    }
}

/// A name as a quoted identifier.
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A column and its type, as `information_schema.columns` writes the type (`udt_name`).
pub type Column = (String, &'static str);

/// The statements and columns of a pipeline's tables.
impl RecordSchema {
    /// Creates the landing table: the fetched record, the item as it was served, its version, and which version is on
    /// the topic. Rows whose two versions differ are the outbox; a partial index finds them.
    pub fn landing_ddl(&self, table: &str) -> Vec<String> {
        let index = quote(&format!("{}_pending", &table[..table.len().min(55)]));
        let table = quote(table);
        vec![
            format!(
                "CREATE TABLE IF NOT EXISTS {table} ({}, _raw json NOT NULL, {VERSION} bigint NOT NULL, _published_version bigint, _run_id text NOT NULL, \
                 _ingested_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY ({}))",
                self.column_definitions(),
                self.key_columns(""),
            ),
            format!("CREATE INDEX IF NOT EXISTS {index} ON {table} ({VERSION}) WHERE _published_version IS DISTINCT FROM {VERSION}"),
        ]
    }

    /// Creates the sink table.
    pub fn sink_ddl(&self, table: &str) -> String {
        format!(
            "CREATE TABLE IF NOT EXISTS {} ({}, {VERSION} bigint NOT NULL, _ingested_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY ({}))",
            quote(table),
            self.column_definitions(),
            self.key_columns(""),
        )
    }

    /// The columns that a sink table must have.
    pub fn sink_columns(&self) -> Vec<Column> {
        let own = [(VERSION.to_owned(), "int8"), ("_ingested_at".to_owned(), "timestamptz")];
        self.fields
            .iter()
            .map(|f| (f.name.clone(), f.field_type.postgres()))
            .chain(own)
            .collect()
    }

    /// The columns that a landing table must have.
    pub fn landing_columns(&self) -> Vec<Column> {
        let own = [
            ("_raw".to_owned(), "json"),
            ("_published_version".to_owned(), "int8"),
            ("_run_id".to_owned(), "text"),
        ];
        self.sink_columns().into_iter().chain(own).collect()
    }

    /// Creates the session's table into which a page is copied; it is emptied at each commit.
    pub fn landing_batch_ddl(&self) -> String {
        format!(
            "CREATE TEMPORARY TABLE IF NOT EXISTS landing_batch (_position integer NOT NULL, {}, _raw json NOT NULL) ON COMMIT DELETE ROWS",
            self.column_definitions()
        )
    }

    /// Copies a page, in PostgreSQL's binary format: position, fields, raw item.
    pub fn landing_copy(&self) -> String {
        format!("COPY landing_batch (_position, {}, _raw) FROM STDIN BINARY", self.columns(""))
    }

    /// Moves the copied page into the landing table: `$1` is the run's id; the count of rows is the count of record
    /// versions landed. Of a key that is in the page twice the last counts; a record that is there already, unchanged,
    /// is left alone; a changed one gets a version greater than its last.
    pub fn landing_upsert(&self, table: &str) -> String {
        let columns = self.columns("");
        let changed = self.values_differ("t", "excluded");
        format!(
            "INSERT INTO {table} AS t ({columns}, _raw, {VERSION}, _run_id) \
             SELECT {columns}, _raw, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, $1 \
             FROM (SELECT DISTINCT ON ({key}) * FROM pg_temp.landing_batch ORDER BY {key}, _position DESC) AS page ORDER BY {key} \
             ON CONFLICT ({key}) DO UPDATE SET {sets}, _raw = excluded._raw, _run_id = excluded._run_id, _ingested_at = now(), \
             {VERSION} = greatest(excluded.{VERSION}, t.{VERSION} + 1) WHERE {changed}",
            table = quote(table),
            key = self.key_columns(""),
            sets = self.take_excluded(),
        )
    }

    /// Takes up to `$1` rows that are not on the topic as they are, whichever run left them: fields, then version. Rows
    /// that another publisher holds are skipped.
    pub fn pending_select(&self, table: &str) -> String {
        format!(
            "SELECT {}, {VERSION} FROM {} WHERE _published_version IS DISTINCT FROM {VERSION} ORDER BY {VERSION} LIMIT $1 FOR UPDATE SKIP LOCKED",
            self.columns(""),
            quote(table)
        )
    }

    /// Marks what the topic acknowledged: an array per key column, then the array of versions. A row that has a newer
    /// version by now stays pending.
    pub fn published_update(&self, table: &str) -> String {
        let key: Vec<_> = self.fields.iter().filter(|f| self.is_key(f)).collect();
        let arrays: Vec<String> = key
            .iter()
            .enumerate()
            .map(|(i, f)| format!("${}::{}[]", i + 1, f.field_type.postgres()))
            .collect();
        let names: Vec<String> = key.iter().map(|f| quote(&f.name)).collect();
        let same: Vec<String> = names.iter().map(|name| format!("t.{name} = p.{name}")).collect();
        format!(
            "UPDATE {table} AS t SET _published_version = p.{VERSION} FROM unnest({arrays}, ${n}::bigint[]) AS p ({names}, {VERSION}) WHERE {same} AND t.{VERSION} = p.{VERSION}",
            table = quote(table),
            arrays = arrays.join(", "),
            n = key.len() + 1,
            names = names.join(", "),
            same = same.join(" AND "),
        )
    }

    /// Writes a batch to the sink table: an array per field, then the array of versions. A batch must hold a key once.
    /// The newest version of a record wins, whatever the order of arrival.
    pub fn sink_upsert(&self, table: &str) -> String {
        let columns = self.columns("");
        let arrays: Vec<String> = self
            .fields
            .iter()
            .enumerate()
            .map(|(i, f)| format!("${}::{}[]", i + 1, f.field_type.postgres()))
            .collect();
        format!(
            "INSERT INTO {table} AS t ({columns}, {VERSION}) SELECT * FROM unnest({arrays}, ${n}::bigint[]) \
             ON CONFLICT ({key}) DO UPDATE SET {sets}, {VERSION} = excluded.{VERSION}, _ingested_at = now() WHERE excluded.{VERSION} > t.{VERSION}",
            table = quote(table),
            arrays = arrays.join(", "),
            n = self.fields.len() + 1,
            key = self.key_columns(""),
            sets = self.take_excluded(),
        )
    }

    fn column_definitions(&self) -> String {
        let definition = |f: &crate::Field| {
            format!(
                "{} {}{}",
                quote(&f.name),
                f.field_type.postgres(),
                if f.optional { "" } else { " NOT NULL" }
            )
        };
        self.fields.iter().map(definition).collect::<Vec<_>>().join(", ")
    }

    /// The fields as a list of columns, in the schema's order.
    pub fn columns(&self, prefix: &str) -> String {
        self.fields
            .iter()
            .map(|f| format!("{prefix}{}", quote(&f.name)))
            .collect::<Vec<_>>()
            .join(", ")
    }

    fn key_columns(&self, prefix: &str) -> String {
        self.key
            .iter()
            .map(|name| format!("{prefix}{}", quote(name)))
            .collect::<Vec<_>>()
            .join(", ")
    }

    fn take_excluded(&self) -> String {
        self.fields
            .iter()
            .filter(|f| !self.is_key(f))
            .map(|f| format!("{0} = excluded.{0}", quote(&f.name)))
            .collect::<Vec<_>>()
            .join(", ")
    }

    fn values_differ(&self, left: &str, right: &str) -> String {
        let row = |of: &str| {
            self.fields
                .iter()
                .filter(|f| !self.is_key(f))
                .map(|f| format!("{of}.{}", quote(&f.name)))
                .collect::<Vec<_>>()
                .join(", ")
        };
        format!("({}) IS DISTINCT FROM ({})", row(left), row(right))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statements_are_those_that_were_reviewed() {
        let schema = RecordSchema::user();
        let mut all = schema.landing_ddl("raw_users");
        all.extend([
            schema.sink_ddl("created_users"),
            schema.landing_batch_ddl(),
            schema.landing_copy(),
            schema.landing_upsert("raw_users"),
            schema.pending_select("raw_users"),
            schema.published_update("raw_users"),
            schema.sink_upsert("created_users"),
        ]);
        insta::assert_snapshot!(all.join(";\n\n"));
    }

    #[test]
    fn an_identifier_cannot_break_out_of_its_quotes() {
        assert_eq!(quote("a\"; DROP TABLE x; --"), "\"a\"\"; DROP TABLE x; --\"");
    }
}

//! The sink table: the newest version of each record.

use super::{
    Column, VERSION, added_columns,
    column::{add_column, column_type, default_clause},
    quoting::{literal, quote},
};
use crate::{Field, RecordSchema};

/// See [`crate::bookkeeping`].
const TOMBSTONES: &str = "userpipeline.tombstones";

impl RecordSchema {
    pub fn sink_ddl(&self, table: &str) -> String {
        format!(
            "CREATE TABLE IF NOT EXISTS {} ({}, {VERSION} bigint NOT NULL, _ingested_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY ({}))",
            quote(table),
            self.column_definitions(|f| {
                let column = column_type(f.field_type);
                format!("{column}{}{}", if f.optional { "" } else { " NOT NULL" }, default_clause(f, column))
            }),
            self.key_columns(),
        )
    }

    /// Existing rows get the default.
    pub fn sink_add(table: &str, field: &Field) -> String {
        add_column(table, field, column_type(field.field_type), " NOT NULL")
    }

    /// The required columns.
    pub fn sink_columns(&self) -> Vec<Column> {
        let fields = self.fields.iter().map(|f| (f.name.clone(), column_type(f.field_type)));
        fields.chain(added_columns()).collect()
    }

    /// Writes a batch, in which each key must be unique. The newest version of a record wins, whatever the order of arrival. The
    /// parameters are an array per field and the array of versions.
    ///
    /// If records can be deleted, an array of the keys as text follows: a tombstone with the same or a newer version wins.
    pub fn sink_upsert(&self, table: &str) -> String {
        let columns = self.columns();
        let arrays: Vec<String> = self
            .fields
            .iter()
            .enumerate()
            .map(|(i, f)| format!("${}::{}[]", i + 1, column_type(f.field_type)))
            .collect();
        let n = self.fields.len() + 1;
        let rows = if self.has_deletes() {
            format!(
                "SELECT {columns}, {VERSION} FROM unnest({arrays}, ${n}::bigint[], ${k}::text[]) AS new ({columns}, {VERSION}, _key) \
                 WHERE NOT EXISTS (SELECT 1 FROM {TOMBSTONES} AS d WHERE d.table_name = {name} AND d.key = new._key AND d.version >= new.{VERSION})",
                arrays = arrays.join(", "),
                k = n + 1,
                name = literal(table),
            )
        } else {
            format!("SELECT * FROM unnest({}, ${n}::bigint[])", arrays.join(", "))
        };
        format!(
            "INSERT INTO {table} AS t ({columns}, {VERSION}) {rows} \
             ON CONFLICT ({key}) DO UPDATE SET {sets}{VERSION} = excluded.{VERSION}, _ingested_at = now() WHERE excluded.{VERSION} > t.{VERSION}",
            table = quote(table),
            key = self.key_columns(),
            sets = self.take_excluded(),
        )
    }

    /// Deletes records, unless they are newer, and writes tombstones. Each key must be unique in a batch. The parameters are an
    /// array per key column, the array of versions, and the array of the keys as text.
    pub fn sink_delete(&self, table: &str) -> String {
        let n = self.key.len() + 1;
        format!(
            "WITH gone AS (SELECT * FROM unnest({arrays}, ${k}::text[]) AS g ({names}, {VERSION}, _key)), \
             kept AS (INSERT INTO {TOMBSTONES} AS d (table_name, key, version) SELECT {name}, _key, {VERSION} FROM gone \
             ON CONFLICT (table_name, key) DO UPDATE SET version = excluded.version, deleted_at = now() WHERE excluded.version > d.version) \
             DELETE FROM {table} AS t USING gone WHERE {same} AND t.{VERSION} <= gone.{VERSION}",
            arrays = self.key_arrays(),
            k = n + 1,
            names = self.key_columns(),
            name = literal(table),
            table = quote(table),
            same = self.same_key("gone"),
        )
    }

    /// Excludes, until the transaction ends, transactions that delete (`false`) or all that write (`true`): concurrent transactions
    /// that delete a record and write an older version of it do not see each other's rows.
    pub fn sink_lock(table: &str, exclusive: bool) -> String {
        let shared = if exclusive { "" } else { "_shared" };
        format!(
            "SELECT pg_advisory_xact_lock{shared}(hashtextextended({}, 0))",
            literal(&format!("userpipeline sink {table}"))
        )
    }
}

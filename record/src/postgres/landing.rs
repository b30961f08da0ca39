//! The landing table, which is also the outbox.

use userpipeline_api::{FieldType, names};

use super::{
    Column, DELETED, FETCHED_MILLIS, RUN_ID, VERSION, added_columns,
    column::{add_column, default_clause, landing_type},
    quoting::quote,
};
use crate::{Field, RecordSchema};

impl RecordSchema {
    /// Creates the landing table. Rows whose `_version` and `_published_version` differ are the outbox. A deleted record keeps its
    /// row, and with it its version.
    pub fn landing_ddl(&self, table: &str) -> String {
        format!(
            "CREATE TABLE IF NOT EXISTS {table} ({}, _raw json NOT NULL, {VERSION} bigint NOT NULL, _published_version bigint, _run_id text NOT NULL, \
                 _deleted boolean NOT NULL DEFAULT false, _ingested_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY ({}))",
            self.column_definitions(|f| {
                let column = landing_type(f.field_type);
                let constraint = if self.is_key(f) {
                    " NOT NULL".to_owned()
                } else {
                    default_clause(f, column)
                };
                format!("{column}{constraint}")
            }),
            self.key_columns(),
            table = quote(table),
        )
    }

    /// For a landing table of an earlier version.
    pub fn landing_add_deleted(table: &str) -> String {
        format!("ALTER TABLE {} ADD COLUMN _deleted boolean NOT NULL DEFAULT false", quote(table))
    }

    /// The index of the outbox: its name and its statement.
    pub fn landing_pending_index(table: &str) -> (String, String) {
        let name = names::index("pending", table);
        let statement = format!(
            "CREATE INDEX {} ON {} ({VERSION}) WHERE _published_version IS DISTINCT FROM {VERSION}",
            quote(&name),
            quote(table)
        );
        (name, statement)
    }

    /// The index for retention: its name and its statement, which does not block writers and must run outside a transaction.
    pub fn landing_age_index(table: &str) -> (String, String) {
        let name = names::index("age", table);
        let statement = format!(
            "CREATE INDEX CONCURRENTLY IF NOT EXISTS {} ON {} (_ingested_at)",
            quote(&name),
            quote(table)
        );
        (name, statement)
    }

    /// Deletes up to `$2` published rows that landed more than `$1` seconds ago. Locked rows are skipped.
    pub fn landing_expire(table: &str) -> String {
        let table = quote(table);
        format!(
            "DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {table} WHERE _ingested_at < now() - make_interval(secs => $1) \
             AND _published_version = {VERSION} ORDER BY _ingested_at LIMIT $2 FOR UPDATE SKIP LOCKED))"
        )
    }

    /// Existing rows get the default.
    pub fn landing_add(table: &str, field: &Field) -> String {
        add_column(table, field, landing_type(field.field_type), "")
    }

    /// Makes a column nullable, in a landing table of an earlier version: of a deleted record, only the key is known.
    pub fn landing_relax(table: &str, field: &Field) -> String {
        format!("ALTER TABLE {} ALTER COLUMN {} DROP NOT NULL", quote(table), quote(&field.name))
    }

    /// The required columns.
    pub fn landing_columns(&self) -> Vec<Column> {
        let own = [
            ("_raw".to_owned(), "json"),
            ("_published_version".to_owned(), "int8"),
            ("_run_id".to_owned(), "text"),
            ("_deleted".to_owned(), "bool"),
        ];
        let fields = self.fields.iter().map(|f| (f.name.clone(), landing_type(f.field_type)));
        fields.chain(added_columns()).chain(own).collect()
    }

    /// Creates the temporary table into which a page is copied. Each commit empties it.
    pub fn landing_batch_ddl(&self) -> String {
        format!(
            "CREATE TEMPORARY TABLE IF NOT EXISTS landing_batch (_position integer NOT NULL, _deleted boolean NOT NULL, {VERSION} bigint, {}, _raw json NOT NULL) ON COMMIT DELETE ROWS",
            self.column_definitions(|f| landing_type(f.field_type).to_owned())
        )
    }

    /// Copies a page, in binary format.
    pub fn landing_copy(&self) -> String {
        format!(
            "COPY landing_batch (_position, _deleted, {VERSION}, {}, _raw) FROM STDIN BINARY",
            self.columns()
        )
    }

    /// Moves the copied page into the landing table. `$1` is the run's id. The number of rows is the number of landed versions.
    ///
    /// With `orderBy`, a greater version wins, and a deletion wins over an upsert of the same version. Without it, the last item of
    /// a key wins, an unchanged record keeps its version, and a changed one gets a greater version.
    pub fn landing_upsert(&self, table: &str) -> String {
        let columns = self.columns();
        let (version, newest, next, changed) = if self.order_by.is_some() {
            (
                VERSION.to_owned(),
                format!("{VERSION} DESC, _deleted DESC, _position DESC"),
                // So that a deletion of the same version becomes pending.
                format!("excluded.{VERSION}, _published_version = NULL"),
                format!("(excluded.{VERSION}, excluded._deleted) > (t.{VERSION}, t._deleted)"),
            )
        } else {
            (
                "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint".to_owned(),
                "_position DESC".to_owned(),
                format!("greatest(excluded.{VERSION}, t.{VERSION} + 1)"),
                self.values_differ("t", "excluded"),
            )
        };
        format!(
            "INSERT INTO {table} AS t ({columns}, _raw, _deleted, {VERSION}, _run_id) \
             SELECT {columns}, _raw, _deleted, {version}, $1 \
             FROM (SELECT DISTINCT ON ({key}) * FROM pg_temp.landing_batch ORDER BY {key}, {newest}) AS page ORDER BY {key} \
             ON CONFLICT ({key}) DO UPDATE SET {sets}_raw = excluded._raw, _deleted = excluded._deleted, _run_id = excluded._run_id, \
             _ingested_at = now(), {VERSION} = {next} WHERE {changed}",
            table = quote(table),
            key = self.key_columns(),
            sets = self.take_excluded(),
        )
    }

    /// Reads and locks up to `$1` pending rows, of any run. Rows that another publisher has locked are skipped.
    pub fn pending_select(&self, table: &str) -> String {
        format!(
            "SELECT {}, {VERSION}, {DELETED}, (extract(epoch FROM coalesce(_ingested_at, now())) * 1000)::bigint AS {FETCHED_MILLIS}, {RUN_ID} FROM {} WHERE _published_version IS DISTINCT FROM {VERSION} ORDER BY {VERSION} LIMIT $1 FOR UPDATE SKIP LOCKED",
            self.columns(),
            quote(table)
        )
    }

    /// Marks rows as published. The parameters are an array per key column and the array of versions. A row with a newer version
    /// stays pending.
    pub fn published_update(&self, table: &str) -> String {
        format!(
            "UPDATE {table} AS t SET _published_version = p.{VERSION} FROM unnest({arrays}) AS p ({names}, {VERSION}) WHERE {same} AND t.{VERSION} = p.{VERSION}",
            table = quote(table),
            arrays = self.key_arrays(),
            names = self.key_columns(),
            same = self.same_key("p"),
        )
    }

    fn values_differ(&self, left: &str, right: &str) -> String {
        let row = |of: &str| {
            // `json` has no equality operator, and the order of keys does not matter.
            let column = |f: &Field| {
                let text = if f.field_type == FieldType::Json { "::jsonb" } else { "" };
                format!("{of}.{}{text}", quote(&f.name))
            };
            let others = self.fields.iter().filter(|f| !self.is_key(f)).map(column);
            others.chain([format!("{of}._deleted")]).collect::<Vec<_>>().join(", ")
        };
        format!("({}) IS DISTINCT FROM ({})", row(left), row(right))
    }
}

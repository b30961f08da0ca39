//! A record in PostgreSQL: tables, and the statements that fill them.
//!
//! Columns of ours start with `_`, so that no field of a record meets them.

use userpipeline_api::FieldType;

use crate::{
    Field, RecordSchema, Value,
    value::{date, moment},
};

/// The version of a record, in microseconds.
pub const VERSION: &str = "_version";
/// The versions of records that are no more: see [`crate::bookkeeping`].
const TOMBSTONES: &str = "userpipeline.tombstones";

/// The type of a field's column.
pub const fn column_type(field_type: FieldType) -> &'static str {
    match field_type {
        FieldType::String => "text",
        FieldType::Boolean => "bool",
        FieldType::Int | FieldType::Long => "int8",
        FieldType::Double => "float8",
        FieldType::Date => "date",
        FieldType::Timestamp => "timestamptz",
        FieldType::Uuid => "uuid",
        FieldType::Bytes => "bytea",
        FieldType::Json => "jsonb",
    }
}

/// A name as a quoted identifier.
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as a literal.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A value as a literal of its column's type.
fn constant(value: &Value, field_type: FieldType) -> String {
    let text = match value {
        Value::Null => return "NULL".to_owned(),
        Value::String(text) | Value::Json(text) => text.clone(),
        Value::Boolean(truth) => truth.to_string(),
        Value::Long(number) => number.to_string(),
        Value::Double(number) => format!("{number:e}"),
        Value::Date(days) => date(*days).map_or_else(String::new, |date| date.to_string()),
        Value::Timestamp(millis) => moment(*millis),
        Value::Uuid(uuid) => uuid.to_string(),
        Value::Bytes(bytes) => bytes.iter().fold("\\x".to_owned(), |text, byte| format!("{text}{byte:02x}")),
    };
    format!("{}::{}", literal(&text), column_type(field_type))
}

/// Without it a field that was declared once and is no more would be missed in every row.
fn default_clause(field: &Field) -> String {
    let default = field.default.as_ref();
    default.map_or_else(String::new, |value| format!(" DEFAULT {}", constant(value, field.field_type)))
}

fn add_column(table: &str, field: &Field, constraint: &str) -> String {
    format!(
        "ALTER TABLE {} ADD COLUMN IF NOT EXISTS {} {}{}{}",
        quote(table),
        quote(&field.name),
        column_type(field.field_type),
        if field.default.is_some() { constraint } else { "" },
        default_clause(field)
    )
}

/// A column and its type, as `information_schema.columns` writes the type (`udt_name`).
pub type Column = (String, &'static str);

/// The statements and columns of a pipeline's tables.
impl RecordSchema {
    /// Creates the landing table: the fetched record, the item as it was served, its version, and which version is on
    /// the topic. Rows whose two versions differ are the outbox; a partial index finds them. A deleted record keeps its row,
    /// and with it its version.
    pub fn landing_ddl(&self, table: &str) -> Vec<String> {
        let index = quote(&format!("{}_pending", &table[..table.len().min(55)]));
        let table = quote(table);
        vec![
            format!(
                "CREATE TABLE IF NOT EXISTS {table} ({}, _raw json NOT NULL, {VERSION} bigint NOT NULL, _published_version bigint, _run_id text NOT NULL, \
                 _deleted boolean NOT NULL DEFAULT false, _ingested_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY ({}))",
                self.column_definitions(|f| {
                    if self.is_key(f) {
                        " NOT NULL".to_owned()
                    } else {
                        default_clause(f)
                    }
                }),
                self.key_columns(),
            ),
            format!("ALTER TABLE {table} ADD COLUMN IF NOT EXISTS _deleted boolean NOT NULL DEFAULT false"),
            format!("CREATE INDEX IF NOT EXISTS {index} ON {table} ({VERSION}) WHERE _published_version IS DISTINCT FROM {VERSION}"),
        ]
    }

    /// Adds a field's column to the landing table: where it has a default, the rows that are there get it.
    pub fn landing_add(table: &str, field: &Field) -> String {
        add_column(table, field, "")
    }

    /// Lets the landing table keep a deleted record, of which only the key is known; once it was made otherwise.
    pub fn landing_relax(table: &str, field: &Field) -> String {
        format!("ALTER TABLE {} ALTER COLUMN {} DROP NOT NULL", quote(table), quote(&field.name))
    }

    /// Creates the sink table.
    pub fn sink_ddl(&self, table: &str) -> String {
        format!(
            "CREATE TABLE IF NOT EXISTS {} ({}, {VERSION} bigint NOT NULL, _ingested_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY ({}))",
            quote(table),
            self.column_definitions(|f| format!("{}{}", if f.optional { "" } else { " NOT NULL" }, default_clause(f))),
            self.key_columns(),
        )
    }

    /// The same for the sink table.
    pub fn sink_add(table: &str, field: &Field) -> String {
        add_column(table, field, " NOT NULL")
    }

    /// The columns that a sink table must have.
    pub fn sink_columns(&self) -> Vec<Column> {
        let own = [(VERSION.to_owned(), "int8"), ("_ingested_at".to_owned(), "timestamptz")];
        self.fields
            .iter()
            .map(|f| (f.name.clone(), column_type(f.field_type)))
            .chain(own)
            .collect()
    }

    /// The columns that a landing table must have.
    pub fn landing_columns(&self) -> Vec<Column> {
        let own = [
            ("_raw".to_owned(), "json"),
            ("_published_version".to_owned(), "int8"),
            ("_run_id".to_owned(), "text"),
            ("_deleted".to_owned(), "bool"),
        ];
        self.sink_columns().into_iter().chain(own).collect()
    }

    /// Creates the session's table into which a page is copied; it is emptied at each commit.
    pub fn landing_batch_ddl(&self) -> String {
        format!(
            "CREATE TEMPORARY TABLE IF NOT EXISTS landing_batch (_position integer NOT NULL, _deleted boolean NOT NULL, {VERSION} bigint, {}, _raw json NOT NULL) ON COMMIT DELETE ROWS",
            self.column_definitions(|_| String::new())
        )
    }

    /// Copies a page, in PostgreSQL's binary format: position, whether it is deleted, its own version, fields, raw item.
    pub fn landing_copy(&self) -> String {
        format!(
            "COPY landing_batch (_position, _deleted, {VERSION}, {}, _raw) FROM STDIN BINARY",
            self.columns()
        )
    }

    /// Moves the copied page into the landing table: `$1` is the run's id; the count of rows is the count of record
    /// versions landed.
    ///
    /// Where records have versions of their own, only a greater one changes anything. Elsewhere, of a key that is in the page
    /// twice the last counts; a record that is there already, unchanged, is left alone; a changed one gets a version greater than
    /// its last.
    pub fn landing_upsert(&self, table: &str) -> String {
        let columns = self.columns();
        let (version, newest, next, changed) = if self.order_by.is_some() {
            (
                VERSION.to_owned(),
                format!("{VERSION} DESC, _position DESC"),
                format!("excluded.{VERSION}"),
                format!("excluded.{VERSION} > t.{VERSION}"),
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

    /// Takes up to `$1` rows that are not on the topic as they are, whichever run left them: fields, then version, then whether
    /// it is deleted. Rows that another publisher holds are skipped.
    pub fn pending_select(&self, table: &str) -> String {
        format!(
            "SELECT {}, {VERSION}, _deleted FROM {} WHERE _published_version IS DISTINCT FROM {VERSION} ORDER BY {VERSION} LIMIT $1 FOR UPDATE SKIP LOCKED",
            self.columns(),
            quote(table)
        )
    }

    /// Marks what the topic acknowledged: an array per key column, then the array of versions. A row that has a newer
    /// version by now stays pending.
    pub fn published_update(&self, table: &str) -> String {
        format!(
            "UPDATE {table} AS t SET _published_version = p.{VERSION} FROM unnest({arrays}) AS p ({names}, {VERSION}) WHERE {same} AND t.{VERSION} = p.{VERSION}",
            table = quote(table),
            arrays = self.key_arrays(),
            names = self.key_columns(),
            same = self.same_key("p"),
        )
    }

    /// Writes a batch to the sink table: an array per field, then the array of versions. A batch must hold a key once.
    /// The newest version of a record wins, whatever the order of arrival.
    ///
    /// Where records can be deleted, an array of the keys as text follows: what was deleted in this version or a newer one stays so.
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

    /// Takes records out of the sink table that are no more, unless they are newer, and keeps their versions: an array per key
    /// column, the array of versions, the array of the keys as text. A batch must hold a key once.
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

    /// Locks out, until the transaction ends, whoever deletes (`false`) or whoever writes at all (`true`): one that deletes and one
    /// that writes an older version would not see each other.
    pub fn sink_lock(table: &str, alone: bool) -> String {
        let shared = if alone { "" } else { "_shared" };
        format!(
            "SELECT pg_advisory_xact_lock{shared}(hashtextextended({}, 0))",
            literal(&format!("userpipeline sink {table}"))
        )
    }

    fn column_definitions(&self, constraint: impl Fn(&Field) -> String) -> String {
        let definition = |f: &Field| format!("{} {}{}", quote(&f.name), column_type(f.field_type), constraint(f));
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

    fn values_differ(&self, left: &str, right: &str) -> String {
        let row = |of: &str| {
            let others = self.fields.iter().filter(|f| !self.is_key(f)).map(|f| quote(&f.name));
            let all: Vec<String> = others.chain(["_deleted".to_owned()]).map(|name| format!("{of}.{name}")).collect();
            all.join(", ")
        };
        format!("({}) IS DISTINCT FROM ({})", row(left), row(right))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn statements(schema: &RecordSchema) -> String {
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
        if schema.has_deletes() {
            all.push(schema.sink_delete("created_users"));
            all.push(RecordSchema::sink_lock("created_users", true));
        }
        all.join(";\n\n")
    }

    #[test]
    fn the_statements_are_those_that_were_reviewed() {
        insta::assert_snapshot!(statements(&RecordSchema::user()));
    }

    #[test]
    fn the_statements_of_a_declared_record_are_those_that_were_reviewed() {
        let declared = json!({"key": ["device", "at"], "orderBy": "seen", "deleteWhen": "has(item.gone)", "fields": [
            {"name": "at", "type": "date", "from": "/at"},
            {"name": "device", "type": "long", "from": "/device"},
            {"name": "seen", "type": "timestamp", "from": "/seen"},
            {"name": "extra", "type": "json", "from": "/extra", "optional": true},
        ]});
        insta::assert_snapshot!(statements(
            &RecordSchema::of(Some(&serde_json::from_value(declared).unwrap())).unwrap()
        ));
    }

    #[test]
    fn an_added_column_has_its_default() {
        for (field_type, value, expected) in [
            ("string", json!("it's"), "text NOT NULL DEFAULT 'it''s'::text"),
            ("double", json!(1e300), "float8 NOT NULL DEFAULT '1e300'::float8"),
            ("date", json!("2023-09-03"), "date NOT NULL DEFAULT '2023-09-03'::date"),
            (
                "timestamp",
                json!(1),
                "timestamptz NOT NULL DEFAULT '1970-01-01T00:00:00.001Z'::timestamptz",
            ),
            (
                "timestamp",
                json!("9999-12-31T23:59:59.999Z"),
                "timestamptz NOT NULL DEFAULT '9999-12-31T23:59:59.999Z'::timestamptz",
            ),
            ("json", json!({"a": [1]}), "jsonb NOT NULL DEFAULT '{\"a\":[1]}'::jsonb"),
            ("boolean", json!(false), "bool NOT NULL DEFAULT 'false'::bool"),
        ] {
            let declared = json!({"key": ["id"], "fields": [
                {"name": "id", "type": "long", "from": "/id"},
                {"name": "x", "type": field_type, "from": "/x", "default": value},
            ]});
            let schema = RecordSchema::of(Some(&serde_json::from_value(declared).unwrap())).unwrap();
            assert_eq!(
                RecordSchema::sink_add("t", &schema.fields[1]),
                format!("ALTER TABLE \"t\" ADD COLUMN IF NOT EXISTS \"x\" {expected}")
            );
        }
    }

    #[test]
    fn an_identifier_cannot_break_out_of_its_quotes() {
        assert_eq!(quote("a\"; DROP TABLE x; --"), "\"a\"\"; DROP TABLE x; --\"");
    }
}

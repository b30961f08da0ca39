//! The landing table, which is also the outbox.

use userpipeline_api::{FieldType, names};

use super::{
    Column, DELETED, FETCHED_MILLIS, FILTERED, ORDER_BY, REQUEST, RUN_ID, VERSION, added_columns,
    column::{add_column, default_clause, landing_type},
    quoting::{literal, quote},
};
use crate::{Field, RecordSchema};

/// The greatest version that expired from each landing table: see [`crate::bookkeeping`].
pub(super) const EXPIRED: &str = "userpipeline.expired_versions";

impl RecordSchema {
    /// Creates the landing table. Rows whose `_version` and `_published_version` differ are the outbox. A deleted record keeps its
    /// row, and with it its version.
    pub fn landing_ddl(&self, table: &str) -> String {
        format!(
            "CREATE TABLE IF NOT EXISTS {table} ({}, _raw json NOT NULL, {VERSION} bigint NOT NULL, _published_version bigint, _run_id text NOT NULL, \
                 _deleted boolean NOT NULL DEFAULT false, {}_ingested_at timestamptz NOT NULL DEFAULT now(), {}PRIMARY KEY ({}))",
            self.column_definitions(|f| {
                let column = landing_type(f.field_type);
                let constraint = if self.is_key(f) {
                    " NOT NULL".to_owned()
                } else {
                    default_clause(f, column)
                };
                format!("{column}{constraint}")
            }),
            if self.filter.is_some() {
                format!("{FILTERED} boolean NOT NULL DEFAULT false, ")
            } else {
                String::new()
            },
            if self.order_by.is_some() {
                format!("{ORDER_BY} bigint, {REQUEST} bigint, ")
            } else {
                String::new()
            },
            self.key_columns(),
            table = quote(table),
        )
    }

    /// For a landing table of an earlier version.
    pub fn landing_add_deleted(table: &str) -> String {
        format!("ALTER TABLE {} ADD COLUMN _deleted boolean NOT NULL DEFAULT false", quote(table))
    }

    /// For a landing table of an earlier version, with `orderBy`.
    pub fn landing_add_order(table: &str) -> String {
        format!(
            "ALTER TABLE {} ADD COLUMN IF NOT EXISTS {ORDER_BY} bigint, ADD COLUMN IF NOT EXISTS {REQUEST} bigint",
            quote(table)
        )
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

    /// Deletes up to `$2` published rows that landed more than `$1` seconds ago, and returns their number. Locked rows are skipped.
    ///
    /// With `orderBy`, rows whose version is ahead of it are kept, because nothing else has their version; and deleted records, which
    /// an equal update must not restore. The greatest expired version is recorded for [`RecordSchema::landing_upsert_ordered`].
    pub fn landing_expire(&self, table: &str) -> String {
        let (name, table) = (literal(table), quote(table));
        let is_ahead = self
            .order_version("")
            .map(|version| format!(" AND {VERSION} <= {version} AND NOT {DELETED}"));
        let delete = format!(
            "DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {table} WHERE _ingested_at < now() - make_interval(secs => $1) \
             AND _published_version = {VERSION}{} ORDER BY _ingested_at LIMIT $2 FOR UPDATE SKIP LOCKED)) RETURNING {VERSION}",
            is_ahead.as_deref().unwrap_or_default()
        );
        if is_ahead.is_none() {
            return format!("WITH expired AS ({delete}) SELECT count(*) FROM expired");
        }
        format!(
            "WITH expired AS ({delete}), \
             recorded AS (INSERT INTO {EXPIRED} AS e (table_name, version) SELECT {name}, max({VERSION}) FROM expired HAVING count(*) > 0 \
             ON CONFLICT (table_name) DO UPDATE SET version = greatest(e.version, excluded.version)) SELECT count(*) FROM expired"
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
        let order = [(ORDER_BY.to_owned(), "int8"), (REQUEST.to_owned(), "int8")];
        let order = order.into_iter().filter(|_| self.order_by.is_some());
        let fields = self.fields.iter().map(|f| (f.name.clone(), landing_type(f.field_type)));
        let filtered = self.filter.is_some().then(|| (FILTERED.to_owned(), "bool"));
        fields.chain(added_columns()).chain(own).chain(filtered).chain(order).collect()
    }

    /// Creates the temporary table into which a page is copied. Each commit empties it.
    pub fn landing_batch_ddl(&self) -> String {
        format!(
            "CREATE TEMPORARY TABLE IF NOT EXISTS landing_batch (_position integer NOT NULL, _deleted boolean NOT NULL, {ORDER_BY} bigint, {}{}, _raw json NOT NULL) ON COMMIT DELETE ROWS",
            if self.filter.is_some() {
                "_filtered boolean NOT NULL, "
            } else {
                ""
            },
            self.column_definitions(|f| landing_type(f.field_type).to_owned())
        )
    }

    /// Copies a page, in binary format.
    pub fn landing_copy(&self) -> String {
        format!(
            "COPY landing_batch (_position, _deleted, {ORDER_BY}, {}{}, _raw) FROM STDIN BINARY",
            self.filtered_column(),
            self.columns()
        )
    }

    /// Moves the copied page into the landing table. `$1` is the run's id. The number of rows is the number of landed versions; with a
    /// filter there is one row, with the number of landed versions and that of those among them that do not pass.
    ///
    /// For records without `orderBy`: the last item of a key wins, an unchanged record keeps its version, and a changed one gets a
    /// greater version.
    pub fn landing_upsert(&self, table: &str) -> String {
        const NOW: &str = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
        let columns = self.columns();
        let next = format!("greatest(excluded.{VERSION}, t.{VERSION} + 1)");
        let page = format!(
            "(SELECT DISTINCT ON ({key}) * FROM pg_temp.landing_batch ORDER BY {key}, _position DESC) AS page",
            key = self.key_columns()
        );
        // The version is needed twice.
        let (version, page) = if self.filter.is_some() {
            ("_new", format!("(SELECT *, {NOW} AS _new FROM {page}) AS page"))
        } else {
            (NOW, page)
        };
        let upsert = format!(
            "INSERT INTO {quoted} AS t ({columns}, _raw, _deleted, {filtered}{VERSION}, _run_id) \
             SELECT {columns}, _raw, _deleted, {values}{version}, $1 FROM {page} ORDER BY {key} \
             ON CONFLICT ({key}) DO UPDATE SET {sets}_raw = excluded._raw, _deleted = excluded._deleted, {take}_run_id = excluded._run_id, \
             _ingested_at = now(), {VERSION} = {next} WHERE {changed}",
            quoted = quote(table),
            filtered = self.filtered_columns(),
            values = self.filtered_values(table, version),
            key = self.key_columns(),
            sets = self.take_excluded(),
            take = self.take_filtered(table, &next),
            changed = self.values_differ("t", "excluded"),
        );
        if self.filter.is_none() {
            return upsert;
        }
        format!("WITH landed AS ({upsert} RETURNING {FILTERED}) SELECT count(*), count(*) FILTER (WHERE {FILTERED}) FROM landed")
    }

    /// The same with `orderBy`. `$2` is the number of the request, and `$3` whether other runs of the pipeline are active. Returns the
    /// number of landed versions, and with a filter that of those among them that do not pass.
    ///
    /// - A greater `orderBy` wins. Of equal ones, a deletion wins over an upsert; otherwise the response that was requested later.
    /// - An unchanged record keeps its version, and a changed one gets max(`orderBy`, last + 1).
    /// - While other runs are active, an unchanged record gets the number of the request, so that a response that was requested
    ///   earlier and lands later does not replace it.
    /// - A value of `orderBy` up to the greatest expired version gets a greater version, because a store may have that of a row that
    ///   expired.
    pub fn landing_upsert_ordered(&self, table: &str) -> String {
        let (columns, name) = (self.columns(), literal(table));
        let changed = self.values_differ("t", "excluded");
        let (of_page, of_excluded) = (self.order_version("page."), self.order_version("excluded."));
        let (of_page, of_excluded) = (of_page.unwrap_or_default(), of_excluded.unwrap_or_default());
        let when_changed = |value: &str, column: &str| format!("CASE WHEN {changed} THEN {value} ELSE t.{column} END");
        let next = when_changed(&format!("greatest(excluded.{VERSION}, t.{VERSION} + 1)"), VERSION);
        let first = format!("{of_page} + ({of_page} <= coalesce((SELECT version FROM {EXPIRED} WHERE table_name = {name}), 0))::int");
        let page = format!(
            "(SELECT DISTINCT ON ({key}) * FROM pg_temp.landing_batch ORDER BY {key}, {ORDER_BY} DESC, _deleted DESC, _position DESC) AS page",
            key = self.key_columns()
        );
        // The version is needed twice.
        let (version, page) = if self.filter.is_some() {
            ("_new", format!("(SELECT *, {first} AS _new FROM {page}) AS page"))
        } else {
            (first.as_str(), page)
        };
        let (returned, counts) = if self.filter.is_some() {
            (format!(", {FILTERED}"), format!(", count(*) FILTER (WHERE {FILTERED})"))
        } else {
            (String::new(), String::new())
        };
        format!(
            "WITH landed AS (INSERT INTO {quoted} AS t ({columns}, _raw, _deleted, {filtered}{VERSION}, _run_id, {ORDER_BY}, {REQUEST}) \
             SELECT {columns}, _raw, _deleted, {values}{version}, $1, {ORDER_BY}, $2 FROM {page} ORDER BY {key} \
             ON CONFLICT ({key}) DO UPDATE SET {sets}_deleted = excluded._deleted, {take}{ORDER_BY} = excluded.{ORDER_BY}, {REQUEST} = excluded.{REQUEST}, \
             _raw = {raw}, _run_id = {run}, _ingested_at = {time}, {VERSION} = {next} \
             WHERE CASE WHEN t.{ORDER_BY} IS NULL THEN ({of_excluded}, excluded._deleted) > (t.{VERSION}, t._deleted) \
             OR ({of_excluded}, excluded._deleted) = (t.{VERSION}, t._deleted) AND ($3 OR {changed}) \
             ELSE (excluded.{ORDER_BY}, excluded._deleted, excluded.{REQUEST}) > (t.{ORDER_BY}, t._deleted, t.{REQUEST}) \
             AND ($3 OR excluded.{ORDER_BY} > t.{ORDER_BY} OR {changed}) END \
             RETURNING _ingested_at = now() AS is_new{returned}) SELECT count(*){counts} FROM landed WHERE is_new",
            quoted = quote(table),
            filtered = self.filtered_columns(),
            values = self.filtered_values(table, version),
            key = self.key_columns(),
            sets = self.take_excluded(),
            take = self.take_filtered(table, &next),
            raw = when_changed("excluded._raw", "_raw"),
            run = when_changed("excluded._run_id", "_run_id"),
            time = when_changed("now()", "_ingested_at"),
        )
    }

    /// The version that follows from the field of `orderBy`, in a row with the prefix `of`. None without `orderBy`.
    fn order_version(&self, of: &str) -> Option<String> {
        let field = self.fields.iter().find(|f| self.order_by.as_ref() == Some(&f.name))?;
        let column = format!("{of}{}", quote(&field.name));
        Some(match field.field_type {
            FieldType::Timestamp => format!("(extract(epoch FROM {column}) * 1000000)::bigint"),
            _ => column,
        })
    }

    /// Reads and locks up to `$1` pending rows, of any run. Rows that another publisher has locked are skipped.
    pub fn pending_select(&self, table: &str) -> String {
        format!(
            "SELECT {}, {VERSION}, {}, (extract(epoch FROM coalesce(_ingested_at, now())) * 1000)::bigint AS {FETCHED_MILLIS}, {RUN_ID} FROM {} WHERE _published_version IS DISTINCT FROM {VERSION} ORDER BY {VERSION} LIMIT $1 FOR UPDATE SKIP LOCKED",
            self.columns(),
            self.without_content(),
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
            let filtered = self.filter.is_some().then(|| format!("{of}.{FILTERED}"));
            others
                .chain([format!("{of}._deleted")])
                .chain(filtered)
                .collect::<Vec<_>>()
                .join(", ")
        };
        format!("({}) IS DISTINCT FROM ({})", row(left), row(right))
    }
}

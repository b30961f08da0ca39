//! The sink table: the newest version of each record.

use super::{
    Column, OFFSET, ORDER_BY, PARTITION, VERSION, added_columns,
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

    /// With `source.topic`: the columns from which [`RecordSchema::sink_stored`] reads which message a row has.
    pub fn sink_add_order(table: &str) -> String {
        format!(
            "ALTER TABLE {} ADD COLUMN IF NOT EXISTS {ORDER_BY} bigint, ADD COLUMN IF NOT EXISTS {PARTITION} integer, \
             ADD COLUMN IF NOT EXISTS {OFFSET} bigint",
            quote(table)
        )
    }

    /// The required columns with `source.topic`.
    pub fn sink_columns_ordered(&self) -> Vec<Column> {
        let order = [(ORDER_BY, "int8"), (PARTITION, "int4"), (OFFSET, "int8")];
        let order = order.into_iter().map(|(name, data_type)| (name.to_owned(), data_type));
        self.sink_columns().into_iter().chain(order).collect()
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
        self.upsert(table, false)
    }

    /// The same with `source.topic`: arrays of the values of `orderBy`, of partitions and of offsets follow.
    pub fn sink_upsert_ordered(&self, table: &str) -> String {
        self.upsert(table, true)
    }

    fn upsert(&self, table: &str, ordered: bool) -> String {
        let fields = self.columns();
        let mut arrays: Vec<String> = self
            .fields
            .iter()
            .enumerate()
            .map(|(i, f)| format!("${}::{}[]", i + 1, column_type(f.field_type)))
            .collect();
        let n = self.fields.len() + 1;
        arrays.push(format!("${n}::bigint[]"));
        let mut columns = format!("{fields}, {VERSION}");
        let mut names = columns.clone();
        let mut sets = format!("{}{VERSION} = excluded.{VERSION}", self.take_excluded());
        if self.has_deletes() {
            arrays.push(format!("${}::text[]", n + 1));
            names.push_str(", _key");
        }
        if ordered {
            let first = arrays.len() + 1;
            arrays.extend(order_arrays(first));
            for column in [ORDER_BY, PARTITION, OFFSET] {
                columns = format!("{columns}, {column}");
                names = format!("{names}, {column}");
                sets = format!("{sets}, {column} = excluded.{column}");
            }
        }
        let rows = if self.has_deletes() {
            format!(
                "SELECT {columns} FROM unnest({arrays}) AS new ({names}) \
                 WHERE NOT EXISTS (SELECT 1 FROM {TOMBSTONES} AS d WHERE d.table_name = {name} AND d.key = new._key AND d.version >= new.{VERSION})",
                arrays = arrays.join(", "),
                name = literal(table),
            )
        } else {
            format!("SELECT * FROM unnest({})", arrays.join(", "))
        };
        format!(
            "INSERT INTO {table} AS t ({columns}) {rows} \
             ON CONFLICT ({key}) DO UPDATE SET {sets}, _ingested_at = now() WHERE excluded.{VERSION} > t.{VERSION}",
            table = quote(table),
            key = self.key_columns(),
        )
    }

    /// Deletes records, unless they are newer, and writes tombstones. Each key must be unique in a batch. The parameters are an
    /// array per key column, the array of versions, and the array of the keys as text.
    pub fn sink_delete(&self, table: &str) -> String {
        self.delete(table, false)
    }

    /// The same with `source.topic`: arrays of the values of `orderBy`, of partitions, of offsets, and whether the version is ahead
    /// of `orderBy` follow; with a filter, also whether the record does not pass.
    pub fn sink_delete_ordered(&self, table: &str) -> String {
        self.delete(table, true)
    }

    fn delete(&self, table: &str, ordered: bool) -> String {
        let k = self.key.len() + 2;
        let mut arrays = format!("{}, ${k}::text[]", self.key_arrays());
        let (mut more, mut sets) = (String::new(), String::new());
        if ordered {
            let all = order_arrays(k + 1).into_iter().chain([format!("${}::boolean[]", k + 4)]);
            arrays = format!("{arrays}, {}", all.collect::<Vec<_>>().join(", "));
            for column in ["order_by", "partition", "message_offset", "ahead"] {
                more = format!("{more}, {column}");
                sets = format!("{sets}, {column} = excluded.{column}");
            }
            if self.filter.is_some() {
                arrays = format!("{arrays}, ${}::boolean[]", k + 5);
                more.push_str(", filtered");
                sets.push_str(", filtered = excluded.filtered");
            }
        }
        format!(
            "WITH gone AS (SELECT * FROM unnest({arrays}) AS g ({names}, {VERSION}, _key{more})), \
             kept AS (INSERT INTO {TOMBSTONES} AS d (table_name, key, version{more}) SELECT {name}, _key, {VERSION}{more} FROM gone \
             ON CONFLICT (table_name, key) DO UPDATE SET version = excluded.version{sets}, deleted_at = now() WHERE excluded.version > d.version) \
             DELETE FROM {table} AS t USING gone WHERE {same} AND t.{VERSION} <= gone.{VERSION}",
            names = self.key_columns(),
            name = literal(table),
            table = quote(table),
            same = self.same_key("gone"),
        )
    }

    /// With `source.topic`: what the table has of some records. The parameters are an array per key column, the array of versions,
    /// which is not read, and the array of the keys as text. A row has the position of its key, counted from 1, and version, value
    /// of `orderBy`, partition, offset, and whether it is a deletion, which a tombstone of a record that does not pass the filter is
    /// not. A key may have a row and a tombstone.
    pub fn sink_stored(&self, table: &str) -> String {
        let k = self.key.len() + 2;
        let names = self.key_columns();
        let keys = format!(
            "unnest({}, ${k}::text[]) WITH ORDINALITY AS g ({names}, {VERSION}, _key, _n)",
            self.key_arrays()
        );
        let rows = format!(
            "SELECT g._n, t.{VERSION}, t.{ORDER_BY}, t.{PARTITION}, t.{OFFSET}, false FROM {keys} JOIN {} AS t ON {}",
            quote(table),
            self.same_key("g")
        );
        if !self.has_deletes() {
            return rows;
        }
        let is_deletion = if self.filter.is_some() { "NOT d.filtered" } else { "true" };
        format!(
            "{rows} UNION ALL SELECT g._n, d.version, d.order_by, d.partition, d.message_offset, {is_deletion} FROM {keys} \
             JOIN {TOMBSTONES} AS d ON d.table_name = {} AND d.key = g._key",
            literal(table)
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

/// Parameters from the position `first` on: the values of `orderBy`, partitions and offsets.
fn order_arrays(first: usize) -> [String; 3] {
    [
        format!("${first}::bigint[]"),
        format!("${}::integer[]", first + 1),
        format!("${}::bigint[]", first + 2),
    ]
}

//! A record in Cassandra: keyspace, table and statements.
//!
//! The version is the write time of every cell, so an older version that arrives later changes nothing. The table has the fields
//! of the record and no other columns.

use std::collections::BTreeMap;

use userpipeline_api::FieldType;

use crate::{Field, RecordSchema, postgres::quote};

pub const fn column_type(field_type: FieldType) -> &'static str {
    match field_type {
        FieldType::String | FieldType::Json => "text",
        FieldType::Boolean => "boolean",
        FieldType::Int | FieldType::Long => "bigint",
        FieldType::Double => "double",
        FieldType::Date => "date",
        FieldType::Timestamp => "timestamp",
        FieldType::Uuid => "uuid",
        FieldType::Bytes => "blob",
    }
}

/// `replication` is the number of replicas by datacenter.
pub fn keyspace_cql(keyspace: &str, replication: &BTreeMap<String, i32>) -> String {
    let replicas: Vec<String> = replication
        .iter()
        .map(|(datacenter, replicas)| format!(", '{}': {replicas}", datacenter.replace('\'', "''")))
        .collect();
    format!(
        "CREATE KEYSPACE IF NOT EXISTS {} WITH replication = {{'class': 'NetworkTopologyStrategy'{}}}",
        quote(keyspace),
        replicas.concat()
    )
}

/// Options of a table. Absent ones do not change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableOptions {
    /// `default_time_to_live`, in seconds; 0 means for ever.
    pub time_to_live: Option<i64>,
    /// The strategy's class, without its package, and its options.
    pub compaction: Option<BTreeMap<String, String>>,
    /// The minimum of `gc_grace_seconds`: a message redelivered later would restore a deleted record.
    pub gc_grace_seconds: Option<i64>,
}

impl TableOptions {
    /// Cassandra's defaults that every cluster has: tombstones stay for ten days.
    pub fn of_new_table() -> Self {
        Self {
            gc_grace_seconds: Some(864_000),
            ..Self::default()
        }
    }

    /// The options that the table does not have yet.
    #[must_use]
    pub fn missing_from(&self, found: &Self) -> Self {
        // Cassandra writes the class with its package, and adds options.
        let has = |desired: &BTreeMap<String, String>| {
            found.compaction.as_ref().is_some_and(|found| {
                desired.iter().all(|(key, value)| {
                    let actual = found.get(key).map(String::as_str);
                    actual == Some(value) || key == "class" && actual.and_then(|class| class.rsplit('.').next()) == Some(value)
                })
            })
        };
        Self {
            time_to_live: self.time_to_live.filter(|_| self.time_to_live != found.time_to_live),
            compaction: self.compaction.clone().filter(|desired| !has(desired)),
            gc_grace_seconds: self.gc_grace_seconds.filter(|_| self.gc_grace_seconds > found.gc_grace_seconds),
        }
    }

    /// The statement that sets the options, if there are any.
    pub fn alter_cql(&self, keyspace: &str, table: &str) -> Option<String> {
        let mut options = Vec::new();
        options.extend(self.time_to_live.map(|seconds| format!("default_time_to_live = {seconds}")));
        options.extend(self.compaction.as_ref().map(|compaction| {
            let literal = |text: &str| format!("'{}'", text.replace('\'', "''"));
            let pairs: Vec<String> = compaction.iter().map(|(k, v)| format!("{}: {}", literal(k), literal(v))).collect();
            format!("compaction = {{{}}}", pairs.join(", "))
        }));
        options.extend(self.gc_grace_seconds.map(|seconds| format!("gc_grace_seconds = {seconds}")));
        (!options.is_empty()).then(|| format!("ALTER TABLE {}.{} WITH {}", quote(keyspace), quote(table), options.join(" AND ")))
    }
}

impl RecordSchema {
    /// The partition key is the key without the fields of `clusterBy`.
    pub fn cassandra_table_cql(&self, keyspace: &str, table: &str) -> String {
        let columns: Vec<String> = self
            .fields
            .iter()
            .map(|f| format!("{} {}", quote(&f.name), column_type(f.field_type)))
            .collect();
        format!(
            "CREATE TABLE IF NOT EXISTS {}.{} ({}, PRIMARY KEY (({}){}))",
            quote(keyspace),
            quote(table),
            columns.join(", "),
            self.partition_key().map(|name| quote(name)).collect::<Vec<_>>().join(", "),
            self.cluster_by
                .iter()
                .map(|name| format!(", {}", quote(name)))
                .collect::<Vec<_>>()
                .concat(),
        )
    }

    pub fn partition_key(&self) -> impl Iterator<Item = &String> {
        self.key.iter().filter(|name| !self.cluster_by.contains(name))
    }

    pub fn cassandra_add_cql(&self, keyspace: &str, table: &str, field: &Field) -> String {
        format!(
            "ALTER TABLE {}.{} ADD IF NOT EXISTS {} {}",
            quote(keyspace),
            quote(table),
            quote(&field.name),
            column_type(field.field_type)
        )
    }

    /// Writes one record. The parameters are its fields, then its version as the write time. Null fields must be bound: an unset
    /// one would keep the value of an older version.
    pub fn cassandra_insert_cql(&self, keyspace: &str, table: &str) -> String {
        let marks = vec!["?"; self.fields.len()].join(", ");
        format!(
            "INSERT INTO {}.{} ({}) VALUES ({marks}) USING TIMESTAMP ?",
            quote(keyspace),
            quote(table),
            self.columns()
        )
    }

    /// Deletes one record. The parameters are its version as the write time, then its key.
    pub fn cassandra_delete_cql(&self, keyspace: &str, table: &str) -> String {
        let key: Vec<String> = self.key.iter().map(|name| format!("{} = ?", quote(name))).collect();
        format!(
            "DELETE FROM {}.{} USING TIMESTAMP ? WHERE {}",
            quote(keyspace),
            quote(table),
            key.join(" AND ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statements_are_those_that_were_reviewed() {
        let schema = RecordSchema::user();
        let replication = BTreeMap::from([("datacenter1".to_owned(), 1), ("it's".to_owned(), 3)]);
        insta::assert_snapshot!(
            [
                keyspace_cql("spark_streams", &replication),
                schema.cassandra_table_cql("spark_streams", "created_users"),
                schema.cassandra_insert_cql("spark_streams", "created_users"),
            ]
            .join(";\n\n")
        );
    }

    #[test]
    fn only_options_that_differ_are_altered() {
        let map = |pairs: &[(&str, &str)]| Some(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect());
        let found = TableOptions {
            time_to_live: Some(0),
            compaction: map(&[
                ("class", "org.apache.cassandra.db.compaction.SizeTieredCompactionStrategy"),
                ("min_threshold", "4"),
            ]),
            gc_grace_seconds: Some(864_000),
        };
        let options = |time_to_live, compaction| TableOptions {
            time_to_live,
            compaction,
            gc_grace_seconds: None,
        };
        let grace = |seconds| TableOptions {
            gc_grace_seconds: Some(seconds),
            ..TableOptions::default()
        };
        let window = map(&[("class", "TimeWindowCompactionStrategy"), ("compaction_window_unit", "DAYS")]);
        for (desired, statement) in [
            (options(None, None), None),
            (grace(60), None),
            (grace(864_000), None),
            (grace(2_505_600), Some(r#"ALTER TABLE "k"."t" WITH gc_grace_seconds = 2505600"#)),
            (options(Some(0), map(&[("class", "SizeTieredCompactionStrategy")])), None),
            (
                options(Some(60), None),
                Some(r#"ALTER TABLE "k"."t" WITH default_time_to_live = 60"#),
            ),
            (
                options(Some(60), window),
                Some(
                    r#"ALTER TABLE "k"."t" WITH default_time_to_live = 60 AND compaction = {'class': 'TimeWindowCompactionStrategy', 'compaction_window_unit': 'DAYS'}"#,
                ),
            ),
        ] {
            assert_eq!(desired.missing_from(&found).alter_cql("k", "t").as_deref(), statement);
        }
        // The plan of a new table has only the options that differ from the defaults.
        let short = grace(60).missing_from(&TableOptions::of_new_table());
        assert_eq!(short.alter_cql("k", "t"), None);
    }

    #[test]
    fn a_declared_record_has_clustering_columns_and_a_delete_statement() {
        let declared = serde_json::json!({"key": ["device", "at"], "clusterBy": ["at"], "fields": [
            {"name": "device", "type": "string", "from": "/device"},
            {"name": "at", "type": "timestamp", "from": "/at"},
            {"name": "celsius", "type": "double", "from": "/celsius", "optional": true},
        ]});
        let schema = RecordSchema::of(Some(&serde_json::from_value(declared).unwrap())).unwrap();
        assert_eq!(
            schema.cassandra_table_cql("k", "t"),
            r#"CREATE TABLE IF NOT EXISTS "k"."t" ("device" text, "at" timestamp, "celsius" double, PRIMARY KEY (("device"), "at"))"#
        );
        assert_eq!(
            schema.cassandra_delete_cql("k", "t"),
            r#"DELETE FROM "k"."t" USING TIMESTAMP ? WHERE "device" = ? AND "at" = ?"#
        );
        assert_eq!(
            schema.cassandra_add_cql("k", "t", &schema.fields[2]),
            r#"ALTER TABLE "k"."t" ADD IF NOT EXISTS "celsius" double"#
        );
    }
}

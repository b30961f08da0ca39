//! A record in Cassandra: keyspace, table, and the statement that fills it.
//!
//! The version is the write time of every cell, so that an older version that arrives later changes nothing.

use std::collections::BTreeMap;

use userpipeline_api::FieldType;

use crate::{Field, RecordSchema, postgres::quote};

/// The type of a field's column.
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

/// Creates a keyspace that keeps `replication` copies in each datacenter.
pub fn keyspace_cql(keyspace: &str, replication: &BTreeMap<String, i32>) -> String {
    let copies: Vec<String> = replication
        .iter()
        .map(|(datacenter, copies)| format!(", '{}': {copies}", datacenter.replace('\'', "''")))
        .collect();
    format!(
        "CREATE KEYSPACE IF NOT EXISTS {} WITH replication = {{'class': 'NetworkTopologyStrategy'{}}}",
        quote(keyspace),
        copies.concat()
    )
}

/// How a table keeps its rows; what is not said stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keeping {
    /// Seconds that a row stays; 0 for good.
    pub time_to_live: Option<i64>,
    /// The strategy's class, without its package, and its options.
    pub compaction: Option<BTreeMap<String, String>>,
    /// Seconds that a delete is remembered at least (`gc_grace_seconds`): what comes again later brings the record back.
    pub deletes: Option<i64>,
}

impl Keeping {
    /// What a table has by Cassandra's own defaults, as far as it can be relied on: deletes are remembered for ten days.
    pub fn of_a_new_table() -> Self {
        Self {
            deletes: Some(864_000),
            ..Self::default()
        }
    }

    /// What of it is not so yet.
    #[must_use]
    pub fn unlike(&self, found: &Self) -> Self {
        // Cassandra writes the class with its package, and adds options of its own.
        let has = |wanted: &BTreeMap<String, String>| {
            found.compaction.as_ref().is_some_and(|found| {
                wanted.iter().all(|(key, value)| {
                    let there = found.get(key).map(String::as_str);
                    there == Some(value) || key == "class" && there.and_then(|class| class.rsplit('.').next()) == Some(value)
                })
            })
        };
        Self {
            time_to_live: self.time_to_live.filter(|_| self.time_to_live != found.time_to_live),
            compaction: self.compaction.clone().filter(|wanted| !has(wanted)),
            deletes: self.deletes.filter(|_| self.deletes > found.deletes),
        }
    }

    /// Changes a table to it, if there is anything to change.
    pub fn alter_cql(&self, keyspace: &str, table: &str) -> Option<String> {
        let mut options = Vec::new();
        options.extend(self.time_to_live.map(|seconds| format!("default_time_to_live = {seconds}")));
        options.extend(self.compaction.as_ref().map(|compaction| {
            let literal = |text: &str| format!("'{}'", text.replace('\'', "''"));
            let pairs: Vec<String> = compaction.iter().map(|(k, v)| format!("{}: {}", literal(k), literal(v))).collect();
            format!("compaction = {{{}}}", pairs.join(", "))
        }));
        options.extend(self.deletes.map(|seconds| format!("gc_grace_seconds = {seconds}")));
        (!options.is_empty()).then(|| format!("ALTER TABLE {}.{} WITH {}", quote(keyspace), quote(table), options.join(" AND ")))
    }
}

impl RecordSchema {
    /// Creates the table. The key is the partition, but for what a pipeline declares to be sorted within it.
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

    /// The part of the key that chooses the partition.
    pub fn partition_key(&self) -> impl Iterator<Item = &String> {
        self.key.iter().filter(|name| !self.cluster_by.contains(name))
    }

    /// Adds a field's column.
    pub fn cassandra_add_cql(&self, keyspace: &str, table: &str, field: &Field) -> String {
        format!(
            "ALTER TABLE {}.{} ADD IF NOT EXISTS {} {}",
            quote(keyspace),
            quote(table),
            quote(&field.name),
            column_type(field.field_type)
        )
    }

    /// Writes one record: its fields, then its version as the write time. Every field is bound, null included: an
    /// unset one would keep an older version's value.
    pub fn cassandra_insert_cql(&self, keyspace: &str, table: &str) -> String {
        let marks = vec!["?"; self.fields.len()].join(", ");
        format!(
            "INSERT INTO {}.{} ({}) VALUES ({marks}) USING TIMESTAMP ?",
            quote(keyspace),
            quote(table),
            self.columns()
        )
    }

    /// Deletes one record: its version as the write time, then its key. Cassandra remembers it for `gc_grace_seconds`.
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
    fn a_table_is_changed_only_where_it_keeps_its_rows_otherwise() {
        let map = |pairs: &[(&str, &str)]| Some(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect());
        let found = Keeping {
            time_to_live: Some(0),
            compaction: map(&[
                ("class", "org.apache.cassandra.db.compaction.SizeTieredCompactionStrategy"),
                ("min_threshold", "4"),
            ]),
            deletes: Some(864_000),
        };
        let keeping = |time_to_live, compaction| Keeping {
            time_to_live,
            compaction,
            deletes: None,
        };
        let remembering = |deletes| Keeping {
            deletes: Some(deletes),
            ..Keeping::default()
        };
        let window = map(&[("class", "TimeWindowCompactionStrategy"), ("compaction_window_unit", "DAYS")]);
        for (wanted, statement) in [
            (keeping(None, None), None),
            (remembering(60), None),
            (remembering(864_000), None),
            (
                remembering(2_505_600),
                Some(r#"ALTER TABLE "k"."t" WITH gc_grace_seconds = 2505600"#),
            ),
            (keeping(Some(0), map(&[("class", "SizeTieredCompactionStrategy")])), None),
            (
                keeping(Some(60), None),
                Some(r#"ALTER TABLE "k"."t" WITH default_time_to_live = 60"#),
            ),
            (
                keeping(Some(60), window),
                Some(
                    r#"ALTER TABLE "k"."t" WITH default_time_to_live = 60 AND compaction = {'class': 'TimeWindowCompactionStrategy', 'compaction_window_unit': 'DAYS'}"#,
                ),
            ),
        ] {
            assert_eq!(wanted.unlike(&found).alter_cql("k", "t").as_deref(), statement);
        }
        // Of a table that is not there yet, a plan tells what will be changed, and nothing that will not.
        let short = remembering(60).unlike(&Keeping::of_a_new_table());
        assert_eq!(short.alter_cql("k", "t"), None);
    }

    #[test]
    fn a_declared_record_is_sorted_within_its_partition_and_can_be_deleted() {
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

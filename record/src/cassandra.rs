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

//! What a record is: its fields, where each comes from, and what identifies it.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a record is. From it follow the mapping from the source's items, the topic's Avro schema, and the tables.
///
/// A field that is optional or has a default can be added and removed at any time; anything else would break what is stored
/// already, and is refused.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.key.all(k, self.fields.exists(f, f.name == k && !f.optional && !(f.type in ['json', 'double'])))")
        .message("spec.record.key must name fields that are not optional, and of another type than json and double"),
    validation = Rule::new("!has(self.clusterBy) || (self.clusterBy.all(c, self.key.exists(k, k == c)) && self.clusterBy.size() < self.key.size())")
        .message("spec.record.clusterBy must name some of spec.record.key, not all: the others choose the partition"),
    validation = Rule::new("!has(self.orderBy) || self.fields.exists(f, f.name == self.orderBy && !f.optional && f.type in ['timestamp', 'int', 'long'])")
        .message("spec.record.orderBy must name a field of type timestamp, int or long that is not optional"),
    validation = Rule::new("self.key == oldSelf.key").message("spec.record.key cannot be changed: what is stored is found by it; make a new pipeline instead"),
    validation = Rule::new("(has(self.clusterBy) ? self.clusterBy : []) == (has(oldSelf.clusterBy) ? oldSelf.clusterBy : [])")
        .message("spec.record.clusterBy cannot be changed: Cassandra keeps a table's key; make a new pipeline instead"),
    validation = Rule::new("(has(self.orderBy) ? self.orderBy : '') == (has(oldSelf.orderBy) ? oldSelf.orderBy : '')")
        .message("spec.record.orderBy cannot be changed: versions given before could not be compared; make a new pipeline instead"),
    validation = Rule::new("!has(oldSelf.deleteWhen) || has(self.deleteWhen)")
        .message("spec.record.deleteWhen cannot be taken away, for deletes may be on their way: change it to 'false', so that no item deletes any more"),
    validation = Rule::new("self.name == oldSelf.name && self.__namespace__ == oldSelf.__namespace__")
        .message("spec.record.name and namespace cannot be changed: to Avro it would be another record"),
)]
pub struct RecordSpec {
    /// The Avro record's name.
    #[serde(default = "name")]
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z_][A-Za-z0-9_]*$')")
        .message("spec.record.name must be letters, digits and '_', not starting with a digit"))]
    pub name: String,
    /// The Avro record's namespace.
    #[serde(default = "namespace")]
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z_][A-Za-z0-9_]*([.][A-Za-z_][A-Za-z0-9_]*)*$')")
        .message("spec.record.namespace must be names of letters, digits and '_', separated by dots"))]
    pub namespace: String,
    /// The fields that identify a record: the source's own identity. The key of the topic's messages and of the tables.
    #[schemars(length(min = 1, max = 8), inner(length(max = 48)))]
    pub key: Vec<String>,
    /// Those fields of the key by which Cassandra sorts within a partition; the others choose the partition. None when not given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 7), inner(length(max = 48)))]
    pub cluster_by: Vec<String>,
    /// The field that tells which of two versions of a record is the newer one, such as the time of its last change. Without, the one
    /// that was fetched later.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 48))]
    pub order_by: Option<String>,
    /// An expression in CEL over the `item` that is true for an item that tells that its record is no more:
    /// `has(item.deleted) && item.deleted`. Such an item needs its key only (and `orderBy`).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub delete_when: Option<String>,
    /// The fields, in the order of the columns.
    #[schemars(length(min = 1, max = 128), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub fields: Vec<FieldSpec>,
}

/// A field of a record.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.from), has(self.template), has(self.expr)].filter(given, given).size() == 1")
        .message("a field of spec.record takes exactly one of from, template and expr"),
    validation = Rule::new("!has(self.template) || self.type == 'string'").message("a template makes text: the field's type must be string"),
    validation = Rule::new("self.type == oldSelf.type").message("the type of a field cannot be changed: add another field instead"),
    validation = Rule::new("self.optional == oldSelf.optional").message("whether a field is optional cannot be changed: add another field instead"),
)]
pub struct FieldSpec {
    /// Its name, and its columns'.
    #[schemars(length(min = 1, max = 48))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z][A-Za-z0-9_]*$')")
        .message("a field's name must be letters, digits and '_', starting with a letter"))]
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub field_type: FieldType,
    /// Where it is in the item: a JSON pointer (RFC 6901), `/login/uuid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("self.matches('^(/([^/~]|~[01])*)+$')")
        .message("from must be a JSON pointer such as /login/uuid; a '/' within a name is written ~1, a '~' is written ~0"))]
    pub from: Option<String>,
    /// Text with JSON pointers in braces: `{/street/number} {/street/name}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub template: Option<String>,
    /// An expression in CEL over the `item`: `double(item.celsius) * 1.8 + 32.0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub expr: Option<String>,
    /// Whether it may be missing or null.
    #[serde(default)]
    pub optional: bool,
    /// What it is where the item has nothing or null.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
    pub default: Option<Value>,
    /// What it means; it becomes part of the Avro schema.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub doc: String,
}

/// The type of a field: in JSON, Avro, PostgreSQL and Cassandra.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FieldType {
    /// Text, or a number as it was written: string, text, text.
    String,
    /// true or false: boolean, boolean, boolean.
    Boolean,
    /// A whole number of 64 bits, as `long`: long, bigint, bigint.
    Int,
    /// A whole number of 64 bits: long, bigint, bigint.
    Long,
    /// A number: double, double precision, double.
    Double,
    /// A day, `2023-09-03`: date, date, date.
    Date,
    /// A moment, `2023-09-03T10:00:00Z`, or a number of milliseconds since 1970: timestamp-millis, timestamptz, timestamp.
    Timestamp,
    /// A UUID as text: uuid, uuid, uuid.
    Uuid,
    /// Bytes, in base64: bytes, bytea, blob.
    Bytes,
    /// Anything that JSON can say: string, jsonb, text.
    Json,
}

fn name() -> String {
    "Record".to_owned()
}

fn namespace() -> String {
    "dev.userpipeline".to_owned()
}

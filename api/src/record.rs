//! A record: its fields, where each comes from, and its key.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{MaskSpec, lists::without_default};

/// A record. Mapping, the topic's Avro schema and the tables follow from it. A field that is optional or has
/// a default can be added and removed at any time. What would break stored data is refused: other names, keys,
/// types, defaults and masks, and whether a field is optional.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.key.all(k, self.fields.exists(f, f.name == k && !(has(f.optional) && f.optional) && !(f.type in ['json', 'double'])))")
        .message("spec.record.key must name fields that are not optional and not of type json or double"),
    validation = Rule::new("!has(self.clusterBy) || (self.clusterBy.all(c, self.key.exists(k, k == c)) && self.clusterBy.size() < self.key.size())")
        .message("spec.record.clusterBy must name some but not all fields of spec.record.key: the others are the partition key"),
    validation = Rule::new("!has(self.orderBy) || self.fields.exists(f, f.name == self.orderBy && !(has(f.optional) && f.optional) && f.type in ['timestamp', 'int', 'long'])")
        .message("spec.record.orderBy must name a field of type timestamp, int or long that is not optional"),
    validation = Rule::new("self.key.all(k, !self.fields.exists(f, f.name == k && has(f.mask) && f.mask.with != 'HMAC'))")
        .message("a field of spec.record.key can be masked only with HMAC, because other masks give different records the same key"),
    validation = Rule::new("!has(self.orderBy) || !self.fields.exists(f, f.name == self.orderBy && has(f.mask))")
        .message("the field of spec.record.orderBy cannot have a mask, because versions follow its values: remove the mask, or order by another field"),
    validation = Rule::new("self.key == oldSelf.key").message("spec.record.key cannot be changed, because stored rows are found by it: create a new pipeline instead"),
    validation = Rule::new("(has(self.clusterBy) ? self.clusterBy : []) == (has(oldSelf.clusterBy) ? oldSelf.clusterBy : [])")
        .message("spec.record.clusterBy cannot be changed, because Cassandra cannot alter a table's key: create a new pipeline instead"),
    validation = Rule::new("(has(self.orderBy) ? self.orderBy : '') == (has(oldSelf.orderBy) ? oldSelf.orderBy : '')")
        .message("spec.record.orderBy cannot be changed, because stored versions could not be compared: create a new pipeline instead"),
    validation = Rule::new("!has(oldSelf.deleteWhen) || has(self.deleteWhen)")
        .message("spec.record.deleteWhen cannot be removed, because the topic may still have deletes: set it to 'false', so that no item is a delete"),
    validation = Rule::new("!has(self.changes) || self.changes != 'Never' || !has(self.deleteWhen)")
        .message("spec.record.changes: Never does not go with deleteWhen, because a delete is a change"),
    validation = Rule::new("!has(oldSelf.where) || has(self.where)")
        .message("spec.record.where cannot be removed, because landed records and messages may be filtered: set it to 'true', so that every record passes"),
    validation = Rule::new("self.name == oldSelf.name && self.__namespace__ == oldSelf.__namespace__")
        .message("spec.record.name and namespace cannot be changed, because Avro would take it for another record"),
)]
pub struct RecordSpec {
    /// Name of the Avro record.
    #[serde(default = "name")]
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z_][A-Za-z0-9_]*$')")
        .message("spec.record.name must contain only letters, digits and '_', and not start with a digit"))]
    pub name: String,
    /// Namespace of the Avro record.
    #[serde(default = "namespace")]
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z_][A-Za-z0-9_]*([.][A-Za-z_][A-Za-z0-9_]*)*$')")
        .message("spec.record.namespace must have names of letters, digits and '_', separated by dots"))]
    pub namespace: String,
    /// Fields that identify a record. They are the key of the topic's messages and the primary key of the
    /// tables.
    #[schemars(length(min = 1, max = 8), inner(length(max = 48)))]
    pub key: Vec<String>,
    /// Fields of the key by which Cassandra sorts within a partition. The other fields of the key choose the
    /// partition. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 7), inner(length(max = 48)))]
    pub cluster_by: Vec<String>,
    /// Field that orders the versions of a record, such as the time of the last change. Of equal values, a
    /// delete is newer, or else what was requested later. Default: the version that was fetched later is newer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 48))]
    pub order_by: Option<String>,
    /// CEL expression over `item`. If it is true, the item deletes its record: `has(item.deleted) &&
    /// item.deleted`. Such an item needs only the key, and the field of `orderBy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub delete_when: Option<String>,
    /// CEL expression over the fields, by name: `country == 'CH' && age >= 18`. Only records for which it is
    /// true are stored. A newer version that does not pass deletes its record, and one that passes again
    /// restores it. An error rejects the item. A change applies to the records that are fetched or received
    /// from then on. Default: every record is stored.
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub filter: Option<String>,
    /// See [`Changes`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changes: Option<Changes>,
    /// Fields, in the order of the columns.
    #[schemars(length(min = 1, max = 128), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub fields: Vec<FieldSpec>,
}

/// Whether the messages of a topic change records. With `Never`, which needs `source.topic`, all messages of a
/// record are equal, as those of events are: nothing is kept of one that does not pass `where`, and a message
/// without a value becomes a dead letter. Default: `Expected`.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Changes {
    /// A later message may change or delete a record. The version of one that does not pass `where` is kept, so
    /// that an older message does not restore it.
    #[default]
    Expected,
    /// All messages of a record are equal.
    Never,
}

/// A field of a record. Its value comes from exactly one of `from`, `template` and `expr`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.from), has(self.template), has(self.expr)].filter(given, given).size() == 1")
        .message("a field of spec.record must have exactly one of from, template and expr"),
    validation = Rule::new("!has(self.template) || self.type == 'string'").message("a field with a template must have type string"),
    validation = Rule::new("!(has(self.epoch) || has(self.timeZone) || has(self.format)) || self.type == 'timestamp'")
        .message("epoch, timeZone and format of a field need type timestamp"),
    validation = Rule::new("!has(self.mask) || self.mask.with != 'HMAC' || self.type in ['string', 'uuid']")
        .message("mask.with: HMAC needs a field of type string or uuid: use Bucket for a number, a date or a timestamp"),
    validation = Rule::new("!has(self.mask) || self.mask.with != 'Truncate' || self.type == 'string'")
        .message("mask.with: Truncate needs a field of type string: use Bucket for a number, a date or a timestamp"),
    validation = Rule::new("!has(self.mask) || self.mask.with != 'Redact' || self.type == 'string' || (has(self.optional) && self.optional)")
        .message("mask.with: Redact needs a field that is optional or of type string, because its values become null or ***"),
    validation = Rule::new("!has(self.mask) || self.mask.with != 'Bucket' || (has(self.mask.size) && self.type in ['int', 'long', 'double']) || (has(self.mask.period) && self.type in ['date', 'timestamp'])")
        .message("mask.with: Bucket needs size in a field of type int, long or double, and period in one of type date or timestamp"),
    validation = Rule::new("has(self.mask) == has(oldSelf.mask) && (!has(self.mask) || self.mask == oldSelf.mask)")
        .message("the mask of a field cannot be added, changed or removed, because stored rows keep their values: add another field instead"),
    validation = Rule::new("self.type == oldSelf.type").message("the type of a field cannot be changed: add another field instead"),
    validation = Rule::new("(has(self.optional) && self.optional) == (has(oldSelf.optional) && oldSelf.optional)").message("whether a field is optional cannot be changed: add another field instead"),
)]
pub struct FieldSpec {
    /// Name of the field and of its columns.
    #[schemars(length(min = 1, max = 48))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z][A-Za-z0-9_]*$')")
        .message("a field's name must contain only letters, digits and '_', and start with a letter"))]
    #[x_kube(validation = Rule::new("!(self in ['ctid', 'xmin', 'cmin', 'xmax', 'cmax', 'tableoid'])")
        .message("a field must not have the name of a system column of PostgreSQL (ctid, xmin, cmin, xmax, cmax, tableoid): choose another name"))]
    pub name: String,
    /// Type of the field.
    #[serde(rename = "type")]
    pub field_type: FieldType,
    /// JSON pointer (RFC 6901) into the item: `/login/uuid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("self.matches('^(/([^/~]|~[01])*)+$')")
        .message("from must be a JSON pointer such as /login/uuid; write '/' within a name as ~1, and '~' as ~0"))]
    pub from: Option<String>,
    /// Text with JSON pointers in braces: `{/street/number} {/street/name}`. The field's type must be
    /// `string`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("self.matches('^([^{}]*[{]/[^{}]*[}])+[^{}]*$')")
        .message("a template must have JSON pointers in braces, such as {/name/first}, and no other braces"))]
    pub template: Option<String>,
    /// CEL expression over `item`: `double(item.celsius) * 1.8 + 32.0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub expr: Option<String>,
    /// Whether the value may be missing or null. Default: false.
    #[serde(default)]
    #[schemars(transform = without_default)]
    pub optional: bool,
    /// Value if the item has none, or null.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
    pub default: Option<Value>,
    /// Unit of numbers in a field of type `timestamp`, since 1970. Default: milliseconds; numbers whose
    /// absolute value is below 100000000000 are then rejected, because they probably have another unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
    /// Time zone of texts without one, in a field of type `timestamp`: `Europe/Berlin`. Default: such a text
    /// is rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: Option<String>,
    /// Format of texts in a field of type `timestamp`: `RFC3339`, `RFC2822`, `HTTP`, or directives of
    /// strftime, such as `%d.%m.%Y %H:%M`. Default: `RFC3339`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub format: Option<String>,
    /// Replaces the values before they are landed, so the landing table, the topic and the stores have only
    /// masked values. `where`, `deleteWhen` and `orderBy` read the values of the source. It needs
    /// `source.http`, and cannot be changed later. Default: values are stored as they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask: Option<MaskSpec>,
    /// Description of the field, which becomes part of the Avro schema.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub doc: String,
}

/// Type of a field. Each has a type in Avro, PostgreSQL and Cassandra.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FieldType {
    /// Text, or a number as it was written. Avro string, PostgreSQL text, Cassandra text.
    String,
    /// true or false. Avro boolean, PostgreSQL boolean, Cassandra boolean.
    Boolean,
    /// An integer of 64 bits, the same as `long`. Avro long, PostgreSQL bigint, Cassandra bigint.
    Int,
    /// An integer of 64 bits. Avro long, PostgreSQL bigint, Cassandra bigint.
    Long,
    /// A number. Avro double, PostgreSQL double precision, Cassandra double.
    Double,
    /// A day, `2023-09-03`. Avro date, PostgreSQL date, Cassandra date.
    Date,
    /// A time, `2023-09-03T10:00:00Z`, or milliseconds since 1970; see `epoch`, `timeZone` and `format`. Avro timestamp-millis, PostgreSQL
    /// timestamptz, Cassandra timestamp.
    Timestamp,
    /// A UUID as text. Avro uuid, PostgreSQL uuid, Cassandra uuid.
    Uuid,
    /// Base64. Avro bytes, PostgreSQL bytea, Cassandra blob.
    Bytes,
    /// Any JSON value. Avro string, PostgreSQL jsonb, Cassandra text.
    Json,
}

/// Unit of a time since 1970.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Epoch {
    /// Seconds, also with a fraction.
    Seconds,
    /// Milliseconds.
    Milliseconds,
    /// Microseconds. Cut to milliseconds.
    Microseconds,
    /// Nanoseconds. Cut to milliseconds.
    Nanoseconds,
}

fn name() -> String {
    "Record".to_owned()
}

fn namespace() -> String {
    "dev.userpipeline".to_owned()
}

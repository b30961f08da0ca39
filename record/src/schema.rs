//! The schema of a record. It is data, because pipelines declare it.
//!
//! [`RecordSchema::fingerprint`] hashes the `Debug` text of these types, so their names and fields are stored names.

use std::fmt;

use sha2::{Digest, Sha256};
use userpipeline_api::{Changes, FieldType};

use crate::{Expression, Filter, Mask, Value, time_form::TimeForm};

/// The origin of a field in an item.
#[derive(Clone, Debug, PartialEq)]
pub enum Origin {
    /// A JSON pointer (RFC 6901).
    Pointer(String),
    /// Text with JSON pointers in braces: `{/street/number} {/street/name}`.
    Template(String),
    /// CEL.
    Expression(Expression),
}

#[derive(Clone, PartialEq)]
pub struct Field {
    /// Also the name of its columns.
    pub name: String,
    pub field_type: FieldType,
    pub from: Origin,
    pub optional: bool,
    /// For items in which the field is absent or null.
    pub default: Option<Value>,
    pub doc: String,
    /// How values are replaced. Neither tables nor subject derive from it.
    pub mask: Option<Mask>,
    /// How the source writes times. Neither tables nor subject derive from it.
    pub(crate) time_form: TimeForm,
}

/// Without mask and form of times, which are not part of the fingerprint.
#[allow(clippy::missing_fields_in_debug)] // Not those fields.
impl fmt::Debug for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Field")
            .field("name", &self.name)
            .field("field_type", &self.field_type)
            .field("from", &self.from)
            .field("optional", &self.optional)
            .field("default", &self.default)
            .field("doc", &self.doc)
            .finish()
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct RecordSchema {
    /// Of the Avro record.
    pub name: String,
    /// Of the Avro record.
    pub namespace: String,
    pub key: Vec<String>,
    /// The fields of the key that are clustering columns in Cassandra.
    pub cluster_by: Vec<String>,
    /// The field with the record's version.
    pub order_by: Option<String>,
    /// True for an item that deletes its record.
    pub delete_when: Option<Expression>,
    /// True for a record that is stored.
    pub filter: Option<Filter>,
    pub changes: Changes,
    pub fields: Vec<Field>,
}

impl RecordSchema {
    /// The built-in record: a user of randomuser.me.
    pub fn user() -> Self {
        use FieldType::{String, Timestamp, Uuid};
        let field = |name: &str, field_type, from: &str, doc: &str| Field {
            name: name.to_owned(),
            field_type,
            from: if from.contains('{') {
                Origin::Template(from.to_owned())
            } else {
                Origin::Pointer(from.to_owned())
            },
            optional: false,
            default: None,
            mask: None,
            doc: doc.to_owned(),
            time_form: TimeForm::default(),
        };
        Self {
            name: "User".to_owned(),
            namespace: "dev.userpipeline".to_owned(),
            key: vec!["id".to_owned()],
            cluster_by: Vec::new(),
            order_by: None,
            delete_when: None,
            filter: None,
            changes: Changes::Expected,
            fields: vec![
                field("id", Uuid, "/login/uuid", "The source's own identity of the user"),
                field("first_name", String, "/name/first", "Given name"),
                field("last_name", String, "/name/last", "Family name"),
                field("gender", String, "/gender", "As the source gives it"),
                field(
                    "address",
                    String,
                    "{/location/street/number} {/location/street/name}, {/location/city}, {/location/state}, {/location/country}",
                    "NUMBER STREET, CITY, STATE, COUNTRY",
                ),
                field(
                    "post_code",
                    String,
                    "/location/postcode",
                    "Postal code; digits in some countries, text in others",
                ),
                field("email", String, "/email", "E-mail address; not unique"),
                field("username", String, "/login/username", "Login name"),
                field("dob", Timestamp, "/dob/date", "Date of birth"),
                field("registered_date", Timestamp, "/registered/date", "When the user registered"),
                field("phone", String, "/phone", "Phone number"),
                field("picture", String, "/picture/medium", "Address of a picture"),
            ],
        }
    }

    pub fn position(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|f| f.name == name)
    }

    /// # Panics
    /// If the key has an unknown field, which [`RecordSchema::of`] refuses.
    pub fn key_positions(&self) -> impl Iterator<Item = usize> + '_ {
        self.key.iter().map(|name| self.position(name).expect("a key names a field"))
    }

    pub fn is_key(&self, field: &Field) -> bool {
        self.key.contains(&field.name)
    }

    /// Whether items may omit the field.
    pub fn may_lack(field: &Field) -> bool {
        field.optional || field.default.is_some()
    }

    /// Whether items and messages can delete records, or could before they were declared as events: a record that leaves the filter is
    /// deleted.
    pub const fn has_deletes(&self) -> bool {
        self.delete_when.is_some() || self.filter.is_some()
    }

    /// Whether a message without a value deletes its record.
    pub const fn has_messages_without_value(&self) -> bool {
        self.has_deletes() && matches!(self.changes, Changes::Expected)
    }

    /// Changes when the schema Job must run again, because tables and subject derive from the schema.
    pub fn fingerprint(&self) -> String {
        format!("{:.16x}", Sha256::digest(format!("{self:?}").as_bytes()))
    }
}

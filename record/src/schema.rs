//! The schema of a record: a value, not a struct, because a pipeline declares it.

use sha2::{Digest, Sha256};
use userpipeline_api::FieldType;

use crate::{Expression, Value};

/// Where in the source's item a field comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Origin {
    /// A JSON pointer (RFC 6901).
    Pointer(String),
    /// Text with JSON pointers in braces: `{/street/number} {/street/name}`.
    Template(String),
    /// An expression in CEL.
    Expression(Expression),
}

/// One field of a record.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// Its name, and its columns'.
    pub name: String,
    /// Its type.
    pub field_type: FieldType,
    /// Where it comes from.
    pub from: Origin,
    /// Whether it may be absent or null.
    pub optional: bool,
    /// What it is where the item has nothing or null.
    pub default: Option<Value>,
    /// What it means.
    pub doc: String,
}

/// The schema of a record: [`RecordSchema::of`] makes it from what a pipeline declares.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordSchema {
    /// The Avro record's name.
    pub name: String,
    /// The Avro record's namespace.
    pub namespace: String,
    /// The fields that identify a record, in order.
    pub key: Vec<String>,
    /// Those of the key by which Cassandra sorts within a partition.
    pub cluster_by: Vec<String>,
    /// The field that is a record's version.
    pub order_by: Option<String>,
    /// What is true for an item that tells that its record is no more.
    pub delete_when: Option<Expression>,
    /// All fields, in order.
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
            doc: doc.to_owned(),
        };
        Self {
            name: "User".to_owned(),
            namespace: "dev.userpipeline".to_owned(),
            key: vec!["id".to_owned()],
            cluster_by: Vec::new(),
            order_by: None,
            delete_when: None,
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

    /// The position of a field.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|f| f.name == name)
    }

    /// The positions of the key's fields.
    ///
    /// # Panics
    /// If the key names no field: a schema is checked when it is made.
    pub fn key_positions(&self) -> impl Iterator<Item = usize> + '_ {
        self.key.iter().map(|name| self.position(name).expect("a key names a field"))
    }

    /// Whether a field belongs to the key.
    pub fn is_key(&self, field: &Field) -> bool {
        self.key.contains(&field.name)
    }

    /// Whether an item without the field is a record all the same.
    pub fn may_lack(field: &Field) -> bool {
        field.optional || field.default.is_some()
    }

    /// Whether records can be deleted: items and messages that say so are understood.
    pub const fn has_deletes(&self) -> bool {
        self.delete_when.is_some()
    }

    /// A hash over all that tables and subject follow from: it changes when a schema Job must run again.
    pub fn fingerprint(&self) -> String {
        format!("{:.16x}", Sha256::digest(format!("{self:?}").as_bytes()))
    }
}

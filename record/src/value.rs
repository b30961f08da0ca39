//! Values of a record's fields.

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde_json::Value as Json;
use uuid::Uuid;

use crate::time::{date, moment};

/// Base64, padded or not.
pub(crate) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The value of one field.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// None; only in optional fields.
    Null,
    /// Text, without NUL.
    String(String),
    /// True or false.
    Boolean(bool),
    /// A whole number.
    Long(i64),
    /// A finite number.
    Double(f64),
    /// A day, in days since 1970-01-01.
    Date(i32),
    /// Milliseconds since the epoch.
    Timestamp(i64),
    /// A UUID.
    Uuid(Uuid),
    /// Bytes.
    Bytes(Vec<u8>),
    /// JSON as text: what `serde_json` writes.
    Json(String),
}

impl Value {
    /// The value as it stands in a record's key, among others.
    pub(crate) fn key_part(&self) -> Json {
        match self {
            Self::Null => Json::Null,
            Self::String(text) | Self::Json(text) => text.clone().into(),
            Self::Boolean(truth) => (*truth).into(),
            Self::Long(number) | Self::Timestamp(number) => (*number).into(),
            Self::Double(number) => (*number).into(),
            Self::Date(days) => date(*days).map_or_else(String::new, |date| date.to_string()).into(),
            Self::Uuid(uuid) => uuid.to_string().into(),
            Self::Bytes(bytes) => BASE64.encode(bytes).into(),
        }
    }

    /// The value as an item could say it: times as text, bytes in base64.
    pub fn to_json(&self) -> Json {
        match self {
            Self::Json(text) => serde_json::from_str(text).unwrap_or_else(|_| text.clone().into()),
            Self::Timestamp(millis) => moment(*millis).into(),
            other => other.key_part(),
        }
    }

    /// About how many bytes the value takes.
    fn size(&self) -> usize {
        let more = match self {
            Self::String(text) | Self::Json(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            _ => 0,
        };
        size_of::<Self>() + more
    }
}

/// The values of a record's fields, in the schema's order.
#[derive(Clone, Debug, PartialEq)]
pub struct Record(pub Vec<Value>);

impl Record {
    /// About how many bytes the record takes in memory.
    pub fn size(&self) -> usize {
        self.0.iter().map(Value::size).sum()
    }
}

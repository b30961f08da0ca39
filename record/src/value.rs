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

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    /// Without NUL.
    String(String),
    Boolean(bool),
    Long(i64),
    /// Finite.
    Double(f64),
    /// Days since 1970-01-01.
    Date(i32),
    /// Milliseconds since 1970.
    Timestamp(i64),
    Uuid(Uuid),
    Bytes(Vec<u8>),
    /// As `serde_json` writes it.
    Json(String),
}

impl Value {
    /// The value in a key of several fields.
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

    /// Times are text, bytes are base64.
    pub fn to_json(&self) -> Json {
        match self {
            Self::Json(text) => serde_json::from_str(text).unwrap_or_else(|_| text.clone().into()),
            Self::Timestamp(millis) => moment(*millis).into(),
            other => other.key_part(),
        }
    }

    /// Approximate bytes in memory.
    fn size(&self) -> usize {
        let more = match self {
            Self::String(text) | Self::Json(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            _ => 0,
        };
        size_of::<Self>() + more
    }
}

/// The values of the fields, in the schema's order.
#[derive(Clone, Debug, PartialEq)]
pub struct Record(pub Vec<Value>);

impl Record {
    /// Approximate bytes in memory.
    pub fn size(&self) -> usize {
        self.0.iter().map(Value::size).sum()
    }
}

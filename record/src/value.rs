//! Values of a record's fields.

use uuid::Uuid;

/// The value of one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// None; only in optional fields.
    Null,
    /// Text, without NUL.
    String(String),
    /// A UUID.
    Uuid(Uuid),
    /// Milliseconds since the epoch.
    Timestamp(i64),
}

impl Value {
    /// The value as it stands in a record's key.
    fn key_text(&self) -> String {
        match self {
            Self::Null => String::new(),
            Self::String(text) => text.clone(),
            Self::Uuid(uuid) => uuid.to_string(),
            Self::Timestamp(millis) => millis.to_string(),
        }
    }

    /// About how many bytes the value takes.
    fn size(&self) -> usize {
        size_of::<Self>() + if let Self::String(text) = self { text.len() } else { 0 }
    }
}

/// The values of a record's fields, in the schema's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record(pub Vec<Value>);

impl Record {
    /// The record's key as text: the value of its one key field, or a JSON array of the values of several.
    pub fn key(&self, schema: &crate::RecordSchema) -> String {
        let mut parts: Vec<String> = schema.key_positions().map(|i| self.0[i].key_text()).collect();
        if parts.len() == 1 {
            parts.swap_remove(0)
        } else {
            serde_json::Value::from(parts).to_string()
        }
    }

    /// About how many bytes the record takes in memory.
    pub fn size(&self) -> usize {
        self.0.iter().map(Value::size).sum()
    }
}

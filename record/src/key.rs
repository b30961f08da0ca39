//! A record's key as text, and back.

use serde_json::Value as Json;
use userpipeline_api::FieldType;

use crate::{Field, Record, RecordSchema, Value, convert::convert};

impl Record {
    /// The key as text: the value of its field, or a JSON array of the values of several fields.
    pub fn key(&self, schema: &RecordSchema) -> String {
        let mut parts: Vec<Json> = schema.key_positions().map(|i| self.0[i].key_part()).collect();
        if parts.len() > 1 {
            return Json::from(parts).to_string();
        }
        match parts.pop() {
            Some(Json::String(text)) => text,
            Some(other) => other.to_string(),
            None => String::new(),
        }
    }
}

impl RecordSchema {
    /// Parses what [`Record::key`] writes. All other fields are null.
    pub fn record_of_key(&self, key: &str) -> Result<Record, String> {
        let parts: Vec<Json> = if self.key.len() > 1 {
            serde_json::from_str(key).map_err(|_| format!("the key is not a JSON array of {} values", self.key.len()))?
        } else {
            vec![key.into()]
        };
        if parts.len() != self.key.len() {
            return Err(format!("the key has {} values, not {}", parts.len(), self.key.len()));
        }
        let mut record = Record(vec![Value::Null; self.fields.len()]);
        for (position, part) in self.key_positions().zip(parts) {
            let field = &self.fields[position];
            record.0[position] =
                key_value(field, &part, self.key.len() == 1).map_err(|why| format!("the key's `{}`: {why}", field.name))?;
        }
        Ok(record)
    }
}

/// A value of the key. The value of a single-field key is text, whatever its type.
fn key_value(field: &Field, part: &Json, simple: bool) -> Result<Value, String> {
    let numbers = matches!(
        field.field_type,
        FieldType::Int | FieldType::Long | FieldType::Timestamp | FieldType::Boolean
    );
    let read = part
        .as_str()
        .filter(|_| simple && numbers)
        .and_then(|text| serde_json::from_str(text).ok());
    convert(field.field_type, read.as_ref().unwrap_or(part))
}

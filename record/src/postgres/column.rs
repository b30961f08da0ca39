//! The column of a field.

use userpipeline_api::FieldType;

use super::quoting::{literal, quote};
use crate::{
    Field, Value,
    time::{date, moment},
};

pub const fn column_type(field_type: FieldType) -> &'static str {
    match field_type {
        FieldType::String => "text",
        FieldType::Boolean => "bool",
        FieldType::Int | FieldType::Long => "int8",
        FieldType::Double => "float8",
        FieldType::Date => "date",
        FieldType::Timestamp => "timestamptz",
        FieldType::Uuid => "uuid",
        FieldType::Bytes => "bytea",
        FieldType::Json => "jsonb",
    }
}

/// The type in the landing table, from which records are published. `json` keeps the text; `jsonb` would normalise numbers.
pub const fn landing_type(field_type: FieldType) -> &'static str {
    match field_type {
        FieldType::Json => "json",
        other => column_type(other),
    }
}

fn constant(value: &Value, column_type: &str) -> String {
    let text = match value {
        Value::Null => return "NULL".to_owned(),
        Value::String(text) | Value::Json(text) => text.clone(),
        Value::Boolean(truth) => truth.to_string(),
        Value::Long(number) => number.to_string(),
        Value::Double(number) => format!("{number:e}"),
        Value::Date(days) => date(*days).map_or_else(String::new, |date| date.to_string()),
        Value::Timestamp(millis) => moment(*millis),
        Value::Uuid(uuid) => uuid.to_string(),
        Value::Bytes(bytes) => bytes.iter().fold("\\x".to_owned(), |text, byte| format!("{text}{byte:02x}")),
    };
    format!("{}::{column_type}", literal(&text))
}

/// The column of a field that the pipeline no longer declares must not require a value.
pub(super) fn default_clause(field: &Field, column_type: &str) -> String {
    let default = field.default.as_ref();
    default.map_or_else(String::new, |value| format!(" DEFAULT {}", constant(value, column_type)))
}

pub(super) fn add_column(table: &str, field: &Field, column_type: &str, constraint: &str) -> String {
    format!(
        "ALTER TABLE {} ADD COLUMN IF NOT EXISTS {} {column_type}{}{}",
        quote(table),
        quote(&field.name),
        if field.default.is_some() { constraint } else { "" },
        default_clause(field, column_type)
    )
}

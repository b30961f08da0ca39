//! Writes a record's datum without the library's values: they copy each text and name.

use userpipeline_api::FieldType;
use uuid::fmt::Hyphenated;

use crate::{Field, Record, RecordSchema, Value};

/// Appends the datum. Returns whether it did: a value that is not of its field's type is left to the library, which refuses it.
pub fn append(schema: &RecordSchema, record: &Record, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    let is_record = schema.fields.len() == record.0.len();
    let appended = is_record
        && schema
            .fields
            .iter()
            .zip(&record.0)
            .all(|(field, value)| append_field(field, value, out));
    if !appended {
        out.truncate(start);
    }
    appended
}

fn append_field(field: &Field, value: &Value, out: &mut Vec<u8>) -> bool {
    if field.optional {
        // The branch of the union with null.
        long(i64::from(*value != Value::Null), out);
    }
    match (field.field_type, value) {
        (_, Value::Null) => return field.optional,
        (FieldType::String, Value::String(text)) | (FieldType::Json, Value::Json(text)) => bytes(text.as_bytes(), out),
        (FieldType::Bytes, Value::Bytes(value)) => bytes(value, out),
        (FieldType::Uuid, Value::Uuid(uuid)) => {
            bytes(uuid.hyphenated().encode_lower(&mut [0; Hyphenated::LENGTH]).as_bytes(), out);
        }
        (FieldType::Boolean, Value::Boolean(truth)) => out.push(u8::from(*truth)),
        (FieldType::Int | FieldType::Long, Value::Long(number)) | (FieldType::Timestamp, Value::Timestamp(number)) => long(*number, out),
        (FieldType::Date, Value::Date(days)) => long(i64::from(*days), out),
        (FieldType::Double, Value::Double(number)) => out.extend_from_slice(&number.to_le_bytes()),
        _ => return false,
    }
    true
}

fn bytes(bytes: &[u8], out: &mut Vec<u8>) {
    long(i64::try_from(bytes.len()).unwrap_or(i64::MAX), out);
    out.extend_from_slice(bytes);
}

/// Zigzag, seven bits in each byte.
fn long(number: i64, out: &mut Vec<u8>) {
    let mut rest = (number << 1 ^ number >> 63).cast_unsigned();
    while rest >= 0x80 {
        #[allow(clippy::cast_possible_truncation)] // Its lowest bits.
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    #[allow(clippy::cast_possible_truncation)] // Below 128.
    out.push(rest as u8);
}

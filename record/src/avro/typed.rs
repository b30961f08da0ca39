//! Data of our own schema, or of a version of it, as records.

use apache_avro::Schema;
use userpipeline_api::FieldType;

use super::shape::{Names, Shape};
use crate::{Members, Record, RecordSchema, Value, convert, scalar::Scalar, time};

/// Reads data whose fields have the types of the record's.
pub struct TypedReader {
    shape: Shape,
    members: Members,
    /// The value of each field that the writer does not have.
    absent: Vec<Option<Value>>,
}

impl TypedReader {
    /// None if a field has another type, for example one that is promoted: the library resolves it.
    pub fn new(schema: &RecordSchema, writer: &Schema, names: &Names) -> Option<Self> {
        let members = Members::of_fields(schema);
        let shape = Shape::new(writer, names, &members)?;
        let mut is_written = vec![false; schema.fields.len()];
        for (position, is_of_type) in shape.reads(|position| schema.fields[position].field_type)? {
            if !is_of_type {
                return None;
            }
            is_written[position] = true;
        }
        let fields = schema.fields.iter().zip(is_written);
        let absent = fields.map(|(field, is_written)| match (is_written, field.optional, &field.default) {
            (true, _, _) => Some(None),
            (false, true, _) => Some(Some(Value::Null)),
            // A field that no writer may lack is left to the library, which refuses the datum.
            (false, false, default) => default.clone().map(Some),
        });
        let absent = absent.collect::<Option<_>>()?;
        Some(Self { shape, members, absent })
    }

    /// None if the library has to decide.
    pub fn read(&self, schema: &RecordSchema, datum: &[u8]) -> Option<Record> {
        let found = self.shape.read(datum, &self.members)?;
        let fields = schema.fields.iter().zip(&self.absent).zip(found);
        let values = fields.map(|((field, absent), found)| match (absent, found) {
            (Some(absent), _) => Some(absent.clone()),
            (None, Scalar::Null) => field.optional.then_some(Value::Null),
            (None, found) => value(field.field_type, found),
        });
        values.collect::<Option<_>>().map(Record)
    }
}

fn value(field_type: FieldType, found: Scalar<'_>) -> Option<Value> {
    Some(match (field_type, found) {
        (FieldType::String, Scalar::Text(text)) if !text.contains('\0') => Value::String(text.to_owned()),
        (FieldType::Json, Scalar::Text(text)) => Value::Json(convert::checked_json(&serde_json::from_str(text).ok()?).ok()?),
        (FieldType::Boolean, Scalar::Boolean(truth)) => Value::Boolean(truth),
        (FieldType::Int | FieldType::Long, Scalar::Number(number)) => Value::Long(number),
        (FieldType::Double, Scalar::Double(number)) if number.is_finite() => Value::Double(number),
        (FieldType::Date, Scalar::Date(days)) => Value::Date(convert::check_days(days).ok()?),
        (FieldType::Timestamp, Scalar::Number(millis)) => Value::Timestamp(time::check_millis(millis).ok()?),
        (FieldType::Uuid, Scalar::Uuid(uuid)) => Value::Uuid(uuid),
        (FieldType::Bytes, Scalar::Bytes(bytes)) => Value::Bytes(bytes.to_vec()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests;

//! A record in Avro.

mod cursor;
mod datum;
#[cfg(test)]
mod datum_samples;
mod direct;
mod error;
mod item;
mod schema_text;
mod shape;
mod typed;
mod writer_schema;

use apache_avro::{reader::datum::GenericDatumReader, types::Value as Avro, util::max_allocation_bytes, writer::datum::GenericDatumWriter};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use userpipeline_api::FieldType;

use self::{
    datum::whole,
    error::MAX_ALLOCATION,
    typed::TypedReader,
    writer_schema::{names, parse},
};
pub use self::{error::AvroError, item::ItemReader};
use crate::{Field, Record, RecordSchema, Value, convert};

impl RecordSchema {
    /// The Avro schema as JSON.
    pub fn avro_schema(&self) -> Json {
        let fields: Vec<Json> = self.fields.iter().map(avro_field).collect();
        json!({"type": "record", "name": self.name, "namespace": self.namespace, "fields": fields})
    }
}

fn avro_field(field: &Field) -> Json {
    let avro_type = match field.field_type {
        FieldType::String | FieldType::Json => json!("string"),
        FieldType::Boolean => json!("boolean"),
        FieldType::Int | FieldType::Long => json!("long"),
        FieldType::Double => json!("double"),
        FieldType::Date => json!({"type": "int", "logicalType": "date"}),
        FieldType::Timestamp => json!({"type": "long", "logicalType": "timestamp-millis"}),
        FieldType::Uuid => json!({"type": "string", "logicalType": "uuid"}),
        FieldType::Bytes => json!("bytes"),
    };
    if field.optional {
        return json!({"name": field.name, "type": ["null", avro_type], "default": null, "doc": field.doc});
    }
    let mut declared = json!({"name": field.name, "type": avro_type, "doc": field.doc});
    if let Some(default) = &field.default {
        declared["default"] = default_json(default);
    }
    declared
}

/// A default in Avro's JSON encoding. Fields of type bytes have none.
fn default_json(value: &Value) -> Json {
    match value {
        Value::Null | Value::Bytes(_) => Json::Null,
        Value::String(text) | Value::Json(text) => text.clone().into(),
        Value::Boolean(truth) => (*truth).into(),
        Value::Long(number) | Value::Timestamp(number) => (*number).into(),
        Value::Double(number) => (*number).into(),
        Value::Date(days) => (*days).into(),
        Value::Uuid(uuid) => uuid.to_string().into(),
    }
}

/// Encodes records with the pipeline's schema.
pub struct Encoder {
    schema: RecordSchema,
    writer: GenericDatumWriter<'static>,
}

impl Encoder {
    /// Expensive: create one and reuse it.
    pub fn new(schema: RecordSchema) -> Result<Self, AvroError> {
        let writer = GenericDatumWriter::builder(parse(&schema.avro_schema().to_string())?)
            .build()
            .map_err(|e| AvroError::Encode(Box::new(e)))?;
        Ok(Self { schema, writer })
    }

    /// Appends the record's datum to `out`.
    pub fn encode(&self, record: &Record, out: &mut Vec<u8>) -> Result<(), AvroError> {
        if direct::append(&self.schema, record, out) {
            return Ok(());
        }
        self.encode_by_library(record, out)
    }

    fn encode_by_library(&self, record: &Record, out: &mut Vec<u8>) -> Result<(), AvroError> {
        let fields = self.schema.fields.iter().zip(&record.0).map(|(field, value)| {
            let avro = match value {
                Value::Null => Avro::Null,
                Value::String(text) | Value::Json(text) => Avro::String(text.clone()),
                Value::Boolean(truth) => Avro::Boolean(*truth),
                Value::Long(number) => Avro::Long(*number),
                Value::Double(number) => Avro::Double(*number),
                Value::Date(days) => Avro::Date(*days),
                Value::Timestamp(millis) => Avro::TimestampMillis(*millis),
                Value::Uuid(uuid) => Avro::Uuid(*uuid),
                Value::Bytes(bytes) => Avro::Bytes(bytes.clone()),
            };
            let avro = if field.optional {
                Avro::Union(u32::from(avro != Avro::Null), Box::new(avro))
            } else {
                avro
            };
            (field.name.clone(), avro)
        });
        let value = Avro::Record(fields.collect());
        self.writer.write_value(out, value).map_err(|e| AvroError::Encode(Box::new(e)))?;
        Ok(())
    }
}

/// Decodes data of one writer's schema to the pipeline's records, by Avro's schema resolution.
pub struct Decoder {
    schema: RecordSchema,
    reader: GenericDatumReader<'static>,
    /// If the writer's fields have the types of ours.
    typed: Option<TypedReader>,
}

impl Decoder {
    /// Expensive: create one per schema id and reuse it.
    pub fn new(schema: RecordSchema, writer_schema: &str) -> Result<Self, AvroError> {
        max_allocation_bytes(MAX_ALLOCATION);
        let ours = parse(&schema.avro_schema().to_string())?;
        let writer = parse(writer_schema)?;
        let reader = GenericDatumReader::builder(writer)
            .reader_schema(ours)
            .build()
            .map_err(|e| AvroError::Decode(Box::new(e)))?;
        let typed = TypedReader::new(&schema, writer, &names(writer)?);
        Ok(Self { schema, reader, typed })
    }

    pub fn decode(&self, datum: &[u8]) -> Result<Record, AvroError> {
        match self.typed.as_ref().and_then(|typed| typed.read(&self.schema, datum)) {
            Some(record) => Ok(record),
            None => self.decode_by_library(datum),
        }
    }

    fn decode_by_library(&self, datum: &[u8]) -> Result<Record, AvroError> {
        let value = whole(&self.reader, datum)?;
        let Avro::Record(values) = value else {
            return Err(AvroError::Field {
                field: "the datum".to_owned(),
                found: format!("{value:?}"),
            });
        };
        self.schema
            .fields
            .iter()
            .zip(values)
            .map(|(field, (_, value))| from_avro(field, value))
            .collect::<Result<_, _>>()
            .map(Record)
    }
}

fn from_avro(field: &Field, value: Avro) -> Result<Value, AvroError> {
    let wrong = |found: String| AvroError::Field {
        field: field.name.clone(),
        found,
    };
    let unlike = |other: &Avro| {
        let found = apache_avro::schema::SchemaKind::from(other);
        wrong(format!("{found:?}, which is not the field's type"))
    };
    let value = match value {
        Avro::Union(_, inner) => *inner,
        value => value,
    };
    match (field.field_type, value) {
        (_, Avro::Null) if field.optional => Ok(Value::Null),
        (FieldType::String, Avro::String(text)) if text.contains('\0') => {
            Err(wrong("a NUL character, which PostgreSQL's text does not support".to_owned()))
        }
        (FieldType::String, Avro::String(text)) => Ok(Value::String(text)),
        (FieldType::Boolean, Avro::Boolean(truth)) => Ok(Value::Boolean(truth)),
        (FieldType::Int | FieldType::Long, Avro::Long(number)) => Ok(Value::Long(number)),
        (FieldType::Double, Avro::Double(number)) if number.is_finite() => Ok(Value::Double(number)),
        (FieldType::Double, Avro::Double(number)) => Err(wrong(format!("{number}, which is not a finite number"))),
        (FieldType::Date, Avro::Date(days) | Avro::Int(days)) => convert::check_days(days).map(Value::Date).map_err(wrong),
        (FieldType::Timestamp, Avro::TimestampMillis(millis) | Avro::Long(millis)) => {
            crate::time::check_millis(millis).map(Value::Timestamp).map_err(wrong)
        }
        (FieldType::Uuid, Avro::Uuid(uuid)) => Ok(Value::Uuid(uuid)),
        (FieldType::Uuid, Avro::String(text)) => Uuid::try_parse(&text).map(Value::Uuid).map_err(|e| wrong(e.to_string())),
        (FieldType::Bytes, Avro::Bytes(bytes)) => Ok(Value::Bytes(bytes)),
        (FieldType::Json, Avro::String(text)) => serde_json::from_str(&text)
            .map_err(|e| format!("text that is not JSON: {e}"))
            .and_then(|json| convert::checked_json(&json))
            .map(Value::Json)
            .map_err(wrong),
        (_, other) => Err(unlike(&other)),
    }
}

#[cfg(test)]
mod tests;

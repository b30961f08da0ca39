//! A record in Avro.

use apache_avro::{
    Schema, reader::datum::GenericDatumReader, types::Value as Avro, util::max_allocation_bytes, writer::datum::GenericDatumWriter,
};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::{FieldType, Record, RecordSchema, Value};

/// No length inside a message makes us allocate more than this: garbage may claim any.
const MAX_ALLOCATION: usize = 16 << 20;

/// Why a datum is no record, or a record no datum.
#[derive(Debug, thiserror::Error)]
pub enum AvroError {
    /// The writer's schema does not parse.
    #[error("the writer's schema does not parse: {0}")]
    WriterSchema(#[source] Box<apache_avro::Error>),
    /// The bytes are not of the writer's schema, or that does not resolve to ours.
    #[error("the datum does not decode: {0}")]
    Decode(#[source] Box<apache_avro::Error>),
    /// Bytes are left over behind the datum.
    #[error("{0} bytes are left over behind the datum")]
    LeftOver(usize),
    /// A value that the schema does not promise.
    #[error("field `{field}` holds {found}")]
    Field {
        /// The field.
        field: String,
        /// What it holds.
        found: String,
    },
    /// The record does not fit the schema.
    #[error("the record does not encode: {0}")]
    Encode(#[source] Box<apache_avro::Error>),
}

impl RecordSchema {
    /// The Avro schema, as JSON, ready for a registry.
    pub fn avro_schema(&self) -> Json {
        let fields: Vec<Json> = self
            .fields
            .iter()
            .map(|field| {
                let avro_type = match field.field_type {
                    FieldType::String => json!("string"),
                    FieldType::Uuid => json!({"type": "string", "logicalType": "uuid"}),
                    FieldType::Timestamp => json!({"type": "long", "logicalType": "timestamp-millis"}),
                };
                if field.optional {
                    json!({"name": field.name, "type": ["null", avro_type], "default": null, "doc": field.doc})
                } else {
                    json!({"name": field.name, "type": avro_type, "doc": field.doc})
                }
            })
            .collect();
        json!({"type": "record", "name": self.name, "namespace": self.namespace, "fields": fields})
    }
}

fn parse(text: &str) -> Result<&'static Schema, AvroError> {
    let schema = Schema::parse_str(text).map_err(|e| AvroError::WriterSchema(Box::new(e)))?;
    // A reader borrows its schema. There are as many as the subject has versions, and they are needed until the end.
    Ok(Box::leak(Box::new(schema)))
}

/// Records to data of our own schema.
pub struct Encoder {
    schema: RecordSchema,
    writer: GenericDatumWriter<'static>,
}

impl Encoder {
    /// An encoder; make one and keep it.
    pub fn new(schema: RecordSchema) -> Result<Self, AvroError> {
        let writer = GenericDatumWriter::builder(parse(&schema.avro_schema().to_string())?)
            .build()
            .map_err(|e| AvroError::Encode(Box::new(e)))?;
        Ok(Self { schema, writer })
    }

    /// Appends the record's datum to `out`.
    pub fn encode(&self, record: &Record, out: &mut Vec<u8>) -> Result<(), AvroError> {
        let fields = self.schema.fields.iter().zip(&record.0).map(|(field, value)| {
            let avro = match value {
                Value::Null => Avro::Null,
                Value::String(text) => Avro::String(text.clone()),
                Value::Uuid(uuid) => Avro::Uuid(*uuid),
                Value::Timestamp(millis) => Avro::TimestampMillis(*millis),
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

/// Data of one writer's schema to records of ours, resolved as Avro specifies.
pub struct Decoder {
    schema: RecordSchema,
    reader: GenericDatumReader<'static>,
}

impl Decoder {
    /// A decoder for one writer's schema, as the registry gave it; make one per schema id and keep it.
    pub fn new(schema: RecordSchema, writer_schema: &str) -> Result<Self, AvroError> {
        max_allocation_bytes(MAX_ALLOCATION);
        let ours = parse(&schema.avro_schema().to_string())?;
        let reader = GenericDatumReader::builder(parse(writer_schema)?)
            .reader_schema(ours)
            .build()
            .map_err(|e| AvroError::Decode(Box::new(e)))?;
        Ok(Self { schema, reader })
    }

    /// The record in a datum.
    pub fn decode(&self, mut datum: &[u8]) -> Result<Record, AvroError> {
        let value = self.reader.read_value(&mut datum).map_err(|e| AvroError::Decode(Box::new(e)))?;
        if !datum.is_empty() {
            return Err(AvroError::LeftOver(datum.len()));
        }
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

fn from_avro(field: &crate::Field, value: Avro) -> Result<Value, AvroError> {
    let wrong = |found: String| AvroError::Field {
        field: field.name.clone(),
        found,
    };
    match value {
        Avro::Union(_, inner) => from_avro(field, *inner),
        Avro::Null => Ok(Value::Null),
        Avro::String(text) if text.contains('\0') => Err(wrong("a NUL character, which PostgreSQL text cannot hold".to_owned())),
        Avro::String(text) if field.field_type == FieldType::Uuid => {
            Uuid::try_parse(&text).map(Value::Uuid).map_err(|e| wrong(e.to_string()))
        }
        Avro::String(text) => Ok(Value::String(text)),
        Avro::Uuid(uuid) => Ok(Value::Uuid(uuid)),
        Avro::TimestampMillis(millis) | Avro::Long(millis) => crate::map::check_millis(millis).map(Value::Timestamp).map_err(wrong),
        other => Err(wrong(format!(
            "{:?}, which is not of the field's type",
            apache_avro::schema::SchemaKind::from(&other)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text() -> impl Strategy<Value = Value> {
        any::<String>().prop_map(|s| Value::String(s.replace('\0', "")))
    }

    fn record() -> impl Strategy<Value = Record> {
        let schema = RecordSchema::user();
        let values: Vec<BoxedStrategy<Value>> = schema
            .fields
            .iter()
            .map(|field| match field.field_type {
                FieldType::String => text().boxed(),
                FieldType::Uuid => any::<u128>().prop_map(|n| Value::Uuid(Uuid::from_u128(n))).boxed(),
                FieldType::Timestamp => (-62_135_596_800_000_i64..=253_402_300_799_999).prop_map(Value::Timestamp).boxed(),
            })
            .collect();
        values.prop_map(Record)
    }

    #[test]
    fn the_registered_schema_is_the_one_that_was_reviewed() {
        insta::assert_json_snapshot!(RecordSchema::user().avro_schema());
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes_to_the_same(record in record()) {
            let schema = RecordSchema::user();
            let encoder = Encoder::new(schema.clone()).unwrap();
            let decoder = Decoder::new(schema.clone(), &schema.avro_schema().to_string()).unwrap();
            let mut datum = Vec::new();
            encoder.encode(&record, &mut datum).unwrap();
            prop_assert_eq!(decoder.decode(&datum).unwrap(), record);
        }

        #[test]
        fn garbage_is_an_error_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let schema = RecordSchema::user();
            let decoder = Decoder::new(schema.clone(), &schema.avro_schema().to_string()).unwrap();
            prop_assert!(decoder.decode(&bytes).is_err());
        }
    }

    #[test]
    fn bytes_behind_the_datum_are_an_error() {
        let schema = RecordSchema::user();
        let record = Record(
            schema
                .fields
                .iter()
                .map(|f| match f.field_type {
                    FieldType::String => Value::String("x".into()),
                    FieldType::Uuid => Value::Uuid(Uuid::nil()),
                    FieldType::Timestamp => Value::Timestamp(0),
                })
                .collect(),
        );
        let mut datum = Vec::new();
        Encoder::new(schema.clone()).unwrap().encode(&record, &mut datum).unwrap();
        datum.push(7);
        let decoder = Decoder::new(schema.clone(), &schema.avro_schema().to_string()).unwrap();
        assert!(matches!(decoder.decode(&datum), Err(AvroError::LeftOver(1))));
    }
}

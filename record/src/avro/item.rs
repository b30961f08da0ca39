//! A datum of any schema as an item, so that external Avro messages are mapped like JSON items.

use apache_avro::{reader::datum::GenericDatumReader, types::Value as Avro, util::max_allocation_bytes};
use base64::Engine as _;
use serde_json::{Map, Number, Value as Json};

use super::{
    datum::whole,
    error::{AvroError, MAX_ALLOCATION},
    writer_schema::parse,
};
use crate::{time::date, value::BASE64};

/// Decodes data of one writer's schema to items.
pub struct ItemReader(GenericDatumReader<'static>);

impl ItemReader {
    /// Expensive: create one per schema id and reuse it.
    pub fn new(writer_schema: &str) -> Result<Self, AvroError> {
        max_allocation_bytes(MAX_ALLOCATION);
        let reader = GenericDatumReader::builder(parse(writer_schema)?)
            .build()
            .map_err(|e| AvroError::Decode(Box::new(e)))?;
        Ok(Self(reader))
    }

    pub fn read(&self, datum: &[u8]) -> Result<Json, AvroError> {
        whole(&self.0, datum).map(json)
    }
}

/// The value as JSON:
/// - times in milliseconds since 1970, dates as text, bytes in base64;
/// - NaN and infinities as text, as in Avro's JSON encoding;
/// - a day that is not in the calendar as its number.
fn json(value: Avro) -> Json {
    match value {
        Avro::Null => Json::Null,
        Avro::Boolean(truth) => truth.into(),
        Avro::Int(number) | Avro::TimeMillis(number) => number.into(),
        Avro::Long(number) | Avro::TimeMicros(number) | Avro::TimestampMillis(number) | Avro::LocalTimestampMillis(number) => number.into(),
        Avro::TimestampMicros(micros) | Avro::LocalTimestampMicros(micros) => micros.div_euclid(1000).into(),
        Avro::TimestampNanos(nanos) | Avro::LocalTimestampNanos(nanos) => nanos.div_euclid(1_000_000).into(),
        Avro::Float(number) => fraction(decimal(number)),
        Avro::Double(number) => fraction(number),
        Avro::Date(days) => date(days).map_or_else(|| days.into(), |date| date.to_string().into()),
        Avro::String(text) | Avro::Enum(_, text) => text.into(),
        Avro::Uuid(uuid) => uuid.to_string().into(),
        Avro::Bytes(bytes) | Avro::Fixed(_, bytes) => BASE64.encode(&bytes).into(),
        // A decimal of zero bytes has no value.
        Avro::Decimal(number) => BASE64.encode(Vec::try_from(&number).unwrap_or_default()).into(),
        Avro::BigDecimal(number) => number.to_string().into(),
        Avro::Duration(duration) => BASE64.encode(<[u8; 12]>::from(duration)).into(),
        Avro::Union(_, inner) => json(*inner),
        Avro::Array(items) => items.into_iter().map(json).collect(),
        Avro::Map(map) => {
            let sorted: std::collections::BTreeMap<_, _> = map.into_iter().collect();
            sorted
                .into_iter()
                .map(|(key, value)| (key, json(value)))
                .collect::<Map<_, _>>()
                .into()
        }
        Avro::Record(fields) => fields
            .into_iter()
            .map(|(name, value)| (name, json(value)))
            .collect::<Map<_, _>>()
            .into(),
    }
}

fn fraction(number: f64) -> Json {
    match Number::from_f64(number) {
        Some(number) => number.into(),
        None if number.is_nan() => "NaN".into(),
        None if number > 0.0 => "Infinity".into(),
        None => "-Infinity".into(),
    }
}

/// The shortest number that is equal in single precision: 0.1 stays 0.1.
fn decimal(number: f32) -> f64 {
    number.to_string().parse().unwrap_or_else(|_| f64::from(number))
}

#[cfg(test)]
mod tests {
    use apache_avro::{Schema, writer::datum::GenericDatumWriter};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_datum_of_an_external_schema_becomes_an_item() {
        let text = json!({"type": "record", "name": "Reading", "fields": [
            {"name": "device", "type": {"type": "record", "name": "Device", "fields": [{"name": "id", "type": "string"}]}},
            {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
            {"name": "day", "type": {"type": "int", "logicalType": "date"}},
            {"name": "celsius", "type": ["null", "float"]},
            {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["A", "B"]}},
            {"name": "raw", "type": "bytes"},
            {"name": "tags", "type": {"type": "map", "values": {"type": "array", "items": "int"}}},
        ]})
        .to_string();
        let schema = Schema::parse_str(&text).unwrap();
        let mut datum = Vec::new();
        let value = Avro::Record(vec![
            ("device".into(), Avro::Record(vec![("id".into(), Avro::String("d1".into()))])),
            ("at".into(), Avro::TimestampMicros(1_700_000_000_123_456)),
            ("day".into(), Avro::Date(19_000)),
            ("celsius".into(), Avro::Union(1, Box::new(Avro::Float(0.1)))),
            ("kind".into(), Avro::Enum(1, "B".into())),
            ("raw".into(), Avro::Bytes(vec![0xff])),
            ("tags".into(), Avro::Map([("x".to_owned(), Avro::Array(vec![Avro::Int(1)]))].into())),
        ]);
        let writer = GenericDatumWriter::builder(&schema).build().unwrap();
        writer.write_value(&mut datum, value).unwrap();
        let reader = ItemReader::new(&text).unwrap();
        assert_eq!(
            reader.read(&datum).unwrap(),
            json!({"device": {"id": "d1"}, "at": 1_700_000_000_123_i64, "day": "2022-01-08", "celsius": 0.1, "kind": "B", "raw": "/w==", "tags": {"x": [1]}})
        );
        for length in 0..datum.len() {
            assert!(reader.read(&datum[..length]).is_err(), "the first {length} bytes");
        }
        datum.push(0);
        assert!(reader.read(&datum).is_err());
    }

    #[test]
    fn values_that_json_does_not_have_are_not_null() {
        let text = json!({"type": "record", "name": "Odd", "fields": [
            {"name": "f", "type": "float"}, {"name": "d", "type": "double"}, {"name": "day", "type": {"type": "int", "logicalType": "date"}}
        ]});
        let reader = ItemReader::new(&text.to_string()).unwrap();
        for (number, expected) in [(f64::NAN, "NaN"), (f64::INFINITY, "Infinity"), (f64::NEG_INFINITY, "-Infinity")] {
            #[allow(clippy::cast_possible_truncation)] // NaN and infinities are the same in single precision.
            let mut datum = (number as f32).to_le_bytes().to_vec();
            datum.extend(number.to_le_bytes());
            datum.extend([0xfe, 0xff, 0xff, 0xff, 0x0f]);
            assert_eq!(reader.read(&datum).unwrap(), json!({"f": expected, "d": expected, "day": i32::MAX}));
        }
    }
}

//! A datum of any schema as an item, so that external Avro messages are mapped like JSON items.

use apache_avro::{Schema, reader::datum::GenericDatumReader, types::Value as Avro, util::max_allocation_bytes};
use serde_json::{Map, Value as Json};

use super::{
    datum::whole,
    error::{AvroError, MAX_ALLOCATION, MAX_DECIMAL},
    shape::{Names, Shape},
    writer_schema::{names, parse},
};
use crate::{Mapped, Members, RecordSchema, scalar::Scalar};

/// Decodes data of one writer's schema to items.
pub struct ItemReader {
    reader: GenericDatumReader<'static>,
    schema: &'static Schema,
    /// Named schemas, to which others refer.
    names: Names,
    /// What records are made of, if that can be read without building items.
    members: Option<(Members, Shape)>,
}

impl ItemReader {
    /// Expensive: create one per schema id and reuse it. `members`: what records are made of, if they are only members.
    pub fn new(writer_schema: &str, members: Option<&Members>) -> Result<Self, AvroError> {
        max_allocation_bytes(MAX_ALLOCATION);
        let schema = parse(writer_schema)?;
        let reader = GenericDatumReader::builder(schema)
            .build()
            .map_err(|e| AvroError::Decode(Box::new(e)))?;
        let names = names(schema)?;
        let members = members.and_then(|members| Some((members.clone(), Shape::new(schema, &names, members)?)));
        Ok(Self {
            reader,
            schema,
            names,
            members,
        })
    }

    /// The record of a datum, with the value of `orderBy`. `schema`: that of the members. None if the item has to be read: it may be a
    /// record or not.
    pub fn record(&self, schema: &RecordSchema, datum: &[u8]) -> Option<(Mapped, Option<i64>)> {
        let (members, shape) = self.members.as_ref()?;
        schema.map_scalars(members, &shape.read(datum, members)?)
    }

    pub fn read(&self, datum: &[u8]) -> Result<Json, AvroError> {
        self.json(whole(&self.reader, datum)?, Some(self.schema))
    }

    /// The value as JSON: times in milliseconds since 1970, decimals as text with all their digits, and other scalars as [`Scalar`] has them.
    fn json(&self, value: Avro, schema: Option<&Schema>) -> Result<Json, AvroError> {
        let schema = match schema {
            Some(Schema::Ref { name }) => self.names.get(name).copied(),
            schema => schema,
        };
        Ok(match (value, schema) {
            (Avro::Union(variant, inner), Some(Schema::Union(union))) => {
                let variant = usize::try_from(variant).ok().and_then(|variant| union.variants().get(variant));
                self.json(*inner, variant)?
            }
            (Avro::Union(_, inner), _) => self.json(*inner, None)?,
            (Avro::Array(items), schema) => {
                let element = match schema {
                    Some(Schema::Array(array)) => Some(&*array.items),
                    _ => None,
                };
                items.into_iter().map(|item| self.json(item, element)).collect::<Result<_, _>>()?
            }
            (Avro::Map(map), schema) => {
                let member = match schema {
                    Some(Schema::Map(map)) => Some(&*map.types),
                    _ => None,
                };
                let sorted: std::collections::BTreeMap<_, _> = map.into_iter().collect();
                let members = sorted.into_iter().map(|(key, value)| Ok((key, self.json(value, member)?)));
                members.collect::<Result<Map<_, _>, AvroError>>()?.into()
            }
            (Avro::Record(fields), schema) => {
                let schemas = match schema {
                    Some(Schema::Record(record)) => record.fields.as_slice(),
                    _ => &[],
                };
                let members = fields.into_iter().enumerate();
                let members = members.map(|(i, (name, value))| Ok((name, self.json(value, schemas.get(i).map(|field| &field.schema))?)));
                members.collect::<Result<Map<_, _>, AvroError>>()?.into()
            }
            (Avro::Decimal(number), schema) => {
                let scale = match schema {
                    Some(Schema::Decimal(decimal)) => decimal.scale,
                    _ => 0,
                };
                // A decimal of zero bytes has no value.
                let bytes = Vec::try_from(&number).unwrap_or_default();
                if bytes.len() > MAX_DECIMAL || scale > MAX_DECIMAL {
                    return Err(AvroError::TooMuch(format!(
                        "a decimal of more than {MAX_DECIMAL} bytes or decimal places"
                    )));
                }
                decimal_text(&bytes, scale).into()
            }
            (Avro::String(text) | Avro::Enum(_, text), _) => text.into(),
            (value, _) => scalar(&value),
        })
    }
}

fn scalar(value: &Avro) -> Json {
    let scalar = match value {
        Avro::Boolean(truth) => Scalar::Boolean(*truth),
        Avro::Int(number) | Avro::TimeMillis(number) => Scalar::Number((*number).into()),
        Avro::Long(number) | Avro::TimeMicros(number) | Avro::TimestampMillis(number) | Avro::LocalTimestampMillis(number) => {
            Scalar::Number(*number)
        }
        Avro::TimestampMicros(micros) | Avro::LocalTimestampMicros(micros) => Scalar::Number(micros.div_euclid(1000)),
        Avro::TimestampNanos(nanos) | Avro::LocalTimestampNanos(nanos) => Scalar::Number(nanos.div_euclid(1_000_000)),
        Avro::Float(number) => Scalar::Single(*number),
        Avro::Double(number) => Scalar::Double(*number),
        Avro::Date(days) => Scalar::Date(*days),
        Avro::String(text) | Avro::Enum(_, text) => Scalar::Text(text),
        Avro::Uuid(uuid) => Scalar::Uuid(*uuid),
        Avro::Bytes(bytes) | Avro::Fixed(_, bytes) => Scalar::Bytes(bytes),
        Avro::BigDecimal(number) => return number.to_string().into(),
        Avro::Duration(duration) => return Scalar::Bytes(&<[u8; 12]>::from(*duration)).json(),
        // The others contain values.
        _ => Scalar::Null,
    };
    scalar.json()
}

/// The text of a two's-complement number in big-endian order with so many decimal places: `19.90`.
fn decimal_text(bytes: &[u8], scale: usize) -> String {
    let is_negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
    let mut magnitude = bytes.to_vec();
    if is_negative {
        let mut carry = true;
        for byte in magnitude.iter_mut().rev() {
            let (inverted, overflow) = (!*byte).overflowing_add(u8::from(carry));
            (*byte, carry) = (inverted, overflow);
        }
    }
    // Divides by 10 until nothing is left: the digits from the last one.
    let mut digits = Vec::new();
    while magnitude.iter().any(|byte| *byte != 0) {
        let mut rest = 0_u16;
        for byte in &mut magnitude {
            let part = rest << 8 | u16::from(*byte);
            *byte = u8::try_from(part / 10).unwrap_or(u8::MAX);
            rest = part % 10;
        }
        digits.push(char::from(b'0' + u8::try_from(rest).unwrap_or(0)));
    }
    digits.resize(digits.len().max(scale + 1), '0');
    let mut text: String = if is_negative { "-" } else { "" }.to_owned();
    text.extend(digits[scale..].iter().rev());
    if scale > 0 {
        text.push('.');
        text.extend(digits[..scale].iter().rev());
    }
    text
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
        let reader = ItemReader::new(&text, None).unwrap();
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
    fn a_decimal_is_text_with_all_its_digits() {
        for (bytes, scale, expected) in [
            (&[0x07, 0xcf][..], 2, "19.99"),
            (&[0x07, 0xc6], 2, "19.90"),
            (&[0xf8, 0x31], 2, "-19.99"),
            (&[0xff], 3, "-0.001"),
            (&[0x80], 0, "-128"),
            (&[0x00], 2, "0.00"),
            (&[], 2, "0.00"),
            (&[0x05], 0, "5"),
            (&[0x7f; 16], 10, "16947396313317327396019049076.0135540607"),
        ] {
            assert_eq!(decimal_text(bytes, scale), expected, "{bytes:?} {scale}");
        }
    }

    #[test]
    fn a_decimal_has_its_scale_wherever_it_is() {
        let decimal = json!({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2});
        let fixed = json!({"type": "fixed", "name": "Money", "size": 3, "logicalType": "decimal", "precision": 6, "scale": 1});
        let text = json!({"type": "record", "name": "Order", "fields": [
            {"name": "price", "type": decimal}, {"name": "discount", "type": ["null", decimal]},
            {"name": "line", "type": {"type": "record", "name": "Line", "fields": [{"name": "net", "type": fixed}]}},
            {"name": "lines", "type": {"type": "array", "items": "Line"}}, {"name": "taxes", "type": {"type": "map", "values": "Money"}},
        ]});
        let reader = ItemReader::new(&text.to_string(), None).unwrap();
        let datum = [
            &[4, 0x07, 0xcf][..],
            &[2, 2, 0xf6],
            &[0, 0, 15],
            &[2, 0, 0, 16, 0],
            &[2, 2, b'x', 0xff, 0xff, 0xff, 0],
        ]
        .concat();
        assert_eq!(
            reader.read(&datum).unwrap(),
            json!({"price": "19.99", "discount": "-0.10", "line": {"net": "1.5"}, "lines": [{"net": "1.6"}], "taxes": {"x": "-0.1"}})
        );
    }

    #[test]
    fn values_that_json_does_not_have_are_not_null() {
        let text = json!({"type": "record", "name": "Odd", "fields": [
            {"name": "f", "type": "float"}, {"name": "d", "type": "double"}, {"name": "day", "type": {"type": "int", "logicalType": "date"}}
        ]});
        let reader = ItemReader::new(&text.to_string(), None).unwrap();
        for (number, expected) in [(f64::NAN, "NaN"), (f64::INFINITY, "Infinity"), (f64::NEG_INFINITY, "-Infinity")] {
            #[allow(clippy::cast_possible_truncation)] // NaN and infinities are the same in single precision.
            let mut datum = (number as f32).to_le_bytes().to_vec();
            datum.extend(number.to_le_bytes());
            datum.extend([0xfe, 0xff, 0xff, 0xff, 0x0f]);
            assert_eq!(reader.read(&datum).unwrap(), json!({"f": expected, "d": expected, "day": i32::MAX}));
        }
    }
}

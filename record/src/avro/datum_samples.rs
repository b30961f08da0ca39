//! Writer's schemas and data of them, for property tests.

use apache_avro::{Schema, schema::UuidSchema};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::shape::Names;

/// Types of values that are not made of others.
pub fn scalar() -> impl Strategy<Value = Json> {
    let types = [
        json!("null"),
        json!("boolean"),
        json!("int"),
        json!("long"),
        json!("float"),
        json!("double"),
        json!("bytes"),
        json!("string"),
        json!({"type": "int", "logicalType": "date"}),
        json!({"type": "int", "logicalType": "time-millis"}),
        json!({"type": "long", "logicalType": "time-micros"}),
        json!({"type": "long", "logicalType": "timestamp-millis"}),
        json!({"type": "long", "logicalType": "timestamp-micros"}),
        json!({"type": "long", "logicalType": "timestamp-nanos"}),
        json!({"type": "long", "logicalType": "local-timestamp-micros"}),
        json!({"type": "string", "logicalType": "uuid"}),
        json!({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}),
        json!({"type": "enum", "name": "NAME", "symbols": ["A", "B", "NaN"]}),
        json!({"type": "fixed", "name": "NAME", "size": 3}),
    ];
    prop::sample::select(types.to_vec())
}

/// Any types, whose records have some of these fields.
pub fn any_type(names: &'static [&'static str]) -> impl Strategy<Value = Json> + Clone {
    scalar().prop_recursive(3, 24, 6, move |inner| {
        prop_oneof![
            2 => record(names, inner.clone()),
            1 => inner.clone().prop_map(|items| json!({"type": "array", "items": items})),
            1 => inner.clone().prop_map(|values| json!({"type": "map", "values": values})),
            2 => optional(inner),
        ]
    })
}

/// A union with null, in either order.
pub fn optional(of: impl Strategy<Value = Json>) -> impl Strategy<Value = Json> {
    (of, any::<bool>()).prop_map(|(of, is_first)| match of {
        Json::Array(_) => of,
        of if of == "null" => of,
        of if is_first => json!(["null", of]),
        of => json!([of, "null"]),
    })
}

/// A record with some of these fields.
pub fn record(names: &'static [&'static str], of: impl Strategy<Value = Json> + Clone + 'static) -> impl Strategy<Value = Json> {
    prop::sample::subsequence(names, 0..=names.len()).prop_flat_map(move |names| {
        let fields = prop::collection::vec(of.clone(), names.len());
        fields.prop_map(move |types| {
            let fields = names.iter().zip(types);
            let fields: Vec<Json> = fields.map(|(name, of)| json!({"name": name, "type": of})).collect();
            json!({"type": "record", "name": "NAME", "fields": fields})
        })
    })
}

/// Its text, where each type has a name of its own.
pub fn text(schema: &Json) -> String {
    let schema = schema.to_string();
    let parts = schema.split("NAME").enumerate();
    parts.fold(String::new(), |text, (number, part)| match number {
        0 => part.to_owned(),
        _ => format!("{text}N{number}{part}"),
    })
}

/// Numbers that follow from a first one.
pub struct Random(pub u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % below
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.next(of.len())]
    }
}

const TEXTS: [&str; 9] = [
    "",
    "x\u{e9}",
    "a\0b",
    "NaN",
    "12",
    "/w==",
    "{\"a\":[1.50]}",
    "2023-09-03T10:00:00.5Z",
    "7A0EED16-9430-4d68-901f-c0d4c1c3bf00",
];
const NUMBERS: [i64; 8] = [0, 1, -1, 19_000, 1_700_000_000_123, 1_700_000_000_123_456, i64::MAX, i64::MIN];
const DOUBLES: [f64; 5] = [0.0, -0.1, 1e300, f64::NAN, f64::INFINITY];

/// Appends a datum.
pub fn write(schema: &Schema, names: &Names, random: &mut Random, out: &mut Vec<u8>) {
    match schema {
        Schema::Null => {}
        Schema::Boolean => out.push(u8::from(random.next(2) == 1)),
        Schema::Date if random.next(8) > 0 => long(19_000, out),
        Schema::Int | Schema::Date | Schema::TimeMillis => long(random.pick(&[0, 1, -1, 19_000, 2_147_483_647]), out),
        Schema::Float => {
            #[allow(clippy::cast_possible_truncation)] // Any number will do.
            out.extend((random.pick(&DOUBLES) as f32).to_le_bytes());
        }
        Schema::Double if random.next(8) > 0 => out.extend(0.1_f64.to_le_bytes()),
        Schema::Double => out.extend(random.pick(&DOUBLES).to_le_bytes()),
        Schema::Uuid(UuidSchema::String) => bytes(TEXTS[8].as_bytes(), out),
        Schema::String | Schema::Bytes | Schema::Decimal(_) => bytes(random.pick(&TEXTS).as_bytes(), out),
        Schema::Enum(schema) => long(i64::try_from(random.next(schema.symbols.len())).unwrap_or(0), out),
        Schema::Fixed(schema) => out.extend(std::iter::repeat_n(0xe9, schema.size)),
        Schema::Array(schema) => blocks(random, out, |random, out| write(&schema.items, names, random, out)),
        Schema::Map(schema) => blocks(random, out, |random, out| {
            bytes(random.pick(&["a", "b"]).as_bytes(), out);
            write(&schema.types, names, random, out);
        }),
        Schema::Union(schema) => {
            let variant = random.next(schema.variants().len());
            long(i64::try_from(variant).unwrap_or(0), out);
            write(&schema.variants()[variant], names, random, out);
        }
        Schema::Record(schema) => schema.fields.iter().for_each(|field| write(&field.schema, names, random, out)),
        // Samples have no namespaces.
        Schema::Ref { name } => write(names[name], names, random, out),
        Schema::TimestampMicros if random.next(8) > 0 => long(1_700_000_000_123_456, out),
        Schema::TimestampNanos if random.next(8) > 0 => long(1_700_000_000_123_456_789, out),
        Schema::TimestampMillis | Schema::LocalTimestampMicros if random.next(8) > 0 => long(1_700_000_000_123, out),
        _ => long(random.pick(&NUMBERS), out),
    }
}

/// Up to two blocks of up to two items, with or without their size.
fn blocks(random: &mut Random, out: &mut Vec<u8>, mut item: impl FnMut(&mut Random, &mut Vec<u8>)) {
    for _ in 0..random.next(3) {
        let count = 1 + random.next(2);
        let items = i64::try_from(count).unwrap_or(0);
        if random.next(2) == 0 {
            long(items, out);
        } else {
            long(-items, out);
            long(99, out);
        }
        (0..count).for_each(|_| item(random, out));
    }
    long(0, out);
}

/// Cuts a datum, changes a byte of it, or mostly neither.
pub fn damage(datum: &mut Vec<u8>, random: &mut Random) {
    match random.next(6) {
        0 => datum.truncate(random.next(datum.len() + 1)),
        1 if !datum.is_empty() => {
            let at = random.next(datum.len());
            datum[at] = u8::try_from(random.next(256)).unwrap_or(0);
        }
        _ => {}
    }
}

fn bytes(bytes: &[u8], out: &mut Vec<u8>) {
    long(i64::try_from(bytes.len()).unwrap_or(i64::MAX), out);
    out.extend_from_slice(bytes);
}

fn long(number: i64, out: &mut Vec<u8>) {
    let mut rest = (number << 1 ^ number >> 63).cast_unsigned();
    while rest >= 0x80 {
        out.push(u8::try_from(rest & 0x7f).unwrap_or(0) | 0x80);
        rest >>= 7;
    }
    out.push(u8::try_from(rest).unwrap_or(0));
}

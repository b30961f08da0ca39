use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::{
    super::{
        datum_samples::{Random, any_type, damage, optional, scalar, text, write},
        item::ItemReader,
        writer_schema::{names, parse},
    },
    *,
};
use crate::{Mapped, RecordSchema, Value};

const NAMES: &[&str] = &[
    "string",
    "boolean",
    "int",
    "long",
    "double",
    "date",
    "timestamp",
    "uuid",
    "bytes",
    "json",
    "deep",
    "other",
];

fn schema() -> RecordSchema {
    let mut fields = vec![
        json!({"name": "id", "type": "string", "from": "/id"}),
        json!({"name": "at", "type": "timestamp", "from": "/at"}),
        json!({"name": "count", "type": "long", "from": "/more/deep/long", "default": 7}),
        json!({"name": "name", "type": "string", "template": "{/id}: {/more/other} {/more/deep/date},", "optional": true}),
    ];
    for kind in &NAMES[..10] {
        fields.push(json!({"name": format!("a_{kind}"), "type": kind, "from": format!("/more/{kind}"), "optional": true}));
    }
    let declared = json!({"key": ["id"], "orderBy": "at", "fields": fields});
    RecordSchema::of(Some(&serde_json::from_value(declared).unwrap())).unwrap()
}

/// A type whose values a field accepts, if it is a field's.
fn fitting(name: &str) -> BoxedStrategy<Json> {
    let logical = |of: &str, logical: &str| json!({"type": of, "logicalType": logical});
    let millis = logical("long", "timestamp-millis");
    let types = match name {
        "string" => vec![json!("string"), json!("long"), json!("double"), logical("string", "uuid")],
        "boolean" => vec![json!("boolean")],
        "int" | "long" => vec![json!("int"), json!("long"), logical("long", "time-micros")],
        "double" => vec![json!("double"), json!("float"), json!("long")],
        "date" => vec![logical("int", "date")],
        "timestamp" => vec![
            millis.clone(),
            logical("long", "timestamp-nanos"),
            logical("long", "local-timestamp-micros"),
        ],
        "uuid" => vec![logical("string", "uuid")],
        "bytes" => vec![json!("bytes"), json!({"type": "fixed", "name": "NAME", "size": 3})],
        "json" => return prop_oneof![9 => scalar(), 1 => any_type(NAMES)].boxed(),
        "deep" => return prop_oneof![9 => deep(), 1 => any_type(NAMES)].boxed(),
        _ => return any_type(NAMES).boxed(),
    };
    prop::sample::select(types).boxed()
}

fn deep() -> impl Strategy<Value = Json> {
    (optional(fitting("long")), fitting("date"), any_type(NAMES)).prop_map(|(long, date, json)| {
        json!({"type": "record", "name": "NAME", "fields": [
            {"name": "date", "type": date}, {"name": "json", "type": json}, {"name": "long", "type": long},
        ]})
    })
}

/// Messages that are often records of [`schema`].
fn writer() -> impl Strategy<Value = Json> {
    let more = prop::sample::subsequence(NAMES, 0..=NAMES.len()).prop_flat_map(|names| {
        let field = |name: &'static str| {
            let of = prop_oneof![40 => fitting(name), 40 => optional(fitting(name)), 1 => any_type(NAMES)];
            of.prop_map(move |of| json!({"name": name, "type": of}))
        };
        let fields: Vec<_> = names.into_iter().map(field).collect();
        fields.prop_map(|fields| json!({"type": "record", "name": "NAME", "fields": fields}))
    });
    let id = prop_oneof![9 => Just(json!({"type": "string", "logicalType": "uuid"})), 1 => scalar()];
    let at = prop_oneof![9 => Just(json!({"type": "long", "logicalType": "timestamp-micros"})), 1 => optional(scalar())];
    (id, at, optional(more), any_type(NAMES)).prop_map(|(id, at, more, last)| {
        json!({"type": "record", "name": "Top", "fields": [
            {"name": "id", "type": id}, {"name": "more", "type": more}, {"name": "at", "type": at}, {"name": "last", "type": last},
        ]})
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_datum_is_the_same_record_whether_its_item_is_built_or_not(writer in writer(), seed in any::<u64>()) {
        // Given a datum of any schema, which may be damaged
        let (schema, text) = (schema(), text(&writer));
        let members = Members::of(&schema).unwrap();
        let Ok(reader) = ItemReader::new(&text, Some(&members)) else { return Ok(()) };
        let parsed = parse(&text).unwrap();
        let names = names(parsed).unwrap();
        let (mut random, mut datum) = (Random(seed), Vec::new());
        write(parsed, &names, &mut random, &mut datum);
        damage(&mut datum, &mut random);

        // When it is read both ways
        let found = reader.record(&schema, &datum);
        let expected = reader.read(&datum).ok().and_then(|item| schema.map_ordered(&item, None).ok());

        // Then both have the same record, or none
        let is_read = Shape::new(parsed, &names, &members).is_some();
        prop_assert_eq!(found, expected.filter(|_| is_read), "{}", text);
    }
}

fn read(writer: &Json, datum: &[u8]) -> Option<(Vec<Value>, Option<i64>)> {
    let members = Members::of(&schema()).unwrap();
    let reader = ItemReader::new(&writer.to_string(), Some(&members)).unwrap();
    reader.record(&schema(), datum).map(|(mapped, order)| match mapped {
        Mapped::Upsert(record) | Mapped::Filtered(record) | Mapped::Delete(record) => (record.0, order),
    })
}

#[test]
fn members_are_read_and_the_others_are_passed_over() {
    let writer = json!({"type": "record", "name": "Top", "namespace": "a", "fields": [
        {"name": "skipped", "type": {"type": "array", "items": {"type": "record", "name": "b.Part", "fields": [
            {"name": "id", "type": "string"}, {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["A", "B"]}},
        ]}}},
        {"name": "id", "type": "string"},
        {"name": "part", "type": ["null", "b.Part"]},
        {"name": "more", "type": ["null", {"type": "record", "name": "More", "fields": [
            {"name": "string", "type": "b.Kind"}, {"name": "boolean", "type": ["boolean", "null"]},
            {"name": "deep", "type": {"type": "record", "name": "Deep", "fields": [{"name": "long", "type": "int"}]}},
        ]}]},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    ]});
    let datum = [
        &[1, 8, 2, b'x', 0, 0][..], // a block of one item, with its size
        &[4, b'd', b'1'],
        &[2, 2, b'y', 2],
        &[2, 2, 2, 10],
        &[0x80, 0xa0, 0x96, 0xf9, 0xb2, 0x7e],
    ]
    .concat();
    let (values, order) = read(&writer, &datum).unwrap();
    assert_eq!(values[0], Value::String("d1".into()));
    assert_eq!(values[2], Value::Long(5));
    assert_eq!((&values[4], &values[5]), (&Value::String("B".into()), &Value::Null));
    assert_eq!(order.map(|nanos| nanos % 1_000_000), Some(0));
    for length in 0..datum.len() {
        assert_eq!(read(&writer, &datum[..length]), None, "the first {length} bytes");
    }
    assert_eq!(read(&writer, &[&datum[..], &[0]].concat()), None);
}

#[test]
fn what_is_unusual_is_left_to_the_library() {
    let field = |name: &str, kind: &Json| json!({"type": "record", "name": "Top", "fields": [{"name": name, "type": kind}]});
    let decimal = json!({"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 1});
    for (writer, is_read) in [
        (field("more", &json!("int")), true),
        (field("other", &json!({"type": "array", "items": "int"})), true),
        (field("other", &decimal), true),
        (field("other", &json!({"type": "bytes", "logicalType": "big-decimal"})), false),
        (field("id", &decimal), false),
        (field("id", &json!({"type": "array", "items": "int"})), false),
        (field("more", &json!({"type": "map", "values": "int"})), false),
        (field("more", &json!(["null", {"type": "array", "items": "int"}])), false),
    ] {
        let parsed = parse(&writer.to_string()).unwrap();
        let members = Members::of(&schema()).unwrap();
        let found = Shape::new(parsed, &names(parsed).unwrap(), &members);
        assert_eq!(found.is_some(), is_read, "{writer}");
    }
}

#[test]
fn a_schema_that_is_large_by_its_names_is_left_to_the_library() {
    // Given records, each with two of the one before: 2^40 fields
    let mut fields = vec![json!({"name": "f0", "type": {"type": "record", "name": "R0", "fields": [{"name": "n", "type": "int"}]}})];
    for n in 1..40 {
        let before = format!("R{}", n - 1);
        let parts = json!([{"name": "a", "type": before}, {"name": "b", "type": before}]);
        fields.push(json!({"name": format!("f{n}"), "type": {"type": "record", "name": format!("R{n}"), "fields": parts}}));
    }
    let text = json!({"type": "record", "name": "Top", "fields": fields}).to_string();
    let parsed = parse(&text).unwrap();
    let members = Members::of(&schema()).unwrap();
    assert!(Shape::new(parsed, &names(parsed).unwrap(), &members).is_none());
}

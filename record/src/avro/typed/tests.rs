use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::{
    super::{
        Decoder,
        datum_samples::{Random, damage, optional, scalar, text, write},
        writer_schema::{names, parse},
    },
    *,
};
use crate::samples::every_type;

/// Fields of our schema as they are, with another type, or not at all; and fields that it does not have.
fn writer() -> impl Strategy<Value = Json> {
    let schema = every_type().avro_schema();
    let ours = schema["fields"].as_array().unwrap().clone();
    let fields: Vec<_> = ours
        .into_iter()
        .map(|field| {
            let plain = match &field["type"] {
                Json::Array(variants) => variants[1].clone(),
                plain => plain.clone(),
            };
            let (same, name) = (field["type"].clone(), field["name"].clone());
            let of = prop_oneof![60 => Just(same), 2 => optional(Just(plain)), 1 => scalar()];
            let of = of.prop_map(move |of| json!({"name": name, "type": of}));
            prop_oneof![20 => of.prop_map(Some), 1 => Just(None)]
        })
        .collect();
    (fields, scalar()).prop_map(|(fields, other)| {
        let mut fields: Vec<Json> = fields.into_iter().flatten().collect();
        fields.insert(fields.len() / 2, json!({"name": "other", "type": other}));
        fields.reverse();
        json!({"type": "record", "name": "Other", "fields": fields})
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_datum_is_the_record_that_the_library_resolves(writer in writer(), seed in any::<u64>()) {
        // Given a datum of a schema that is much like ours, which may be damaged
        let text = text(&writer);
        let parsed = parse(&text).unwrap();
        let names = names(parsed).unwrap();
        let (mut random, mut datum) = (Random(seed), Vec::new());
        write(parsed, &names, &mut random, &mut datum);
        damage(&mut datum, &mut random);

        // When it is read both ways, then both have the same record, or none
        let schema = every_type();
        let Some(typed) = TypedReader::new(&schema, parsed, &names) else { return Ok(()) };
        let decoder = Decoder::new(schema.clone(), &text).unwrap();
        prop_assert_eq!(typed.read(&schema, &datum), decoder.decode_by_library(&datum).ok(), "{}", text);
    }

    #[test]
    fn a_datum_of_our_own_schema_is_read_without_the_library(record in crate::samples::record(&every_type())) {
        let schema = every_type();
        let parsed = parse(&schema.avro_schema().to_string()).unwrap();
        let typed = TypedReader::new(&schema, parsed, &names(parsed).unwrap()).unwrap();
        let mut datum = Vec::new();
        super::super::Encoder::new(schema.clone()).unwrap().encode(&record, &mut datum).unwrap();
        prop_assert_eq!(typed.read(&schema, &datum), Some(record));
    }
}

#[test]
fn a_type_that_has_to_be_resolved_is_left_to_the_library() {
    let declared = json!({"key": ["id"], "fields": [
        {"name": "id", "type": "long", "from": "/id"},
        {"name": "note", "type": "string", "from": "/note", "optional": true},
        {"name": "kind", "type": "string", "from": "/kind", "default": "x"},
    ]});
    let schema = RecordSchema::of(Some(&serde_json::from_value(declared).unwrap())).unwrap();
    for (fields, is_read) in [
        (json!([{"name": "id", "type": "long"}]), true),
        (json!([{"name": "id", "type": ["null", "long"]}]), true),
        (json!([{"name": "id", "type": "long"}, {"name": "note", "type": "string"}]), true),
        (json!([{"name": "id", "type": "int"}]), false),
        (json!([{"name": "id", "type": "long"}, {"name": "kind", "type": "bytes"}]), false),
        (json!([{"name": "note", "type": "string"}]), false),
    ] {
        let text = json!({"type": "record", "name": "User", "fields": fields}).to_string();
        let parsed = parse(&text).unwrap();
        let typed = TypedReader::new(&schema, parsed, &names(parsed).unwrap());
        assert_eq!(typed.is_some(), is_read, "{text}");
    }
}

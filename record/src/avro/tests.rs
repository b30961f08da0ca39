use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::samples::{every_type, record};

fn pair(schema: &RecordSchema) -> (Encoder, Decoder) {
    let decoder = Decoder::new(schema.clone(), &schema.avro_schema().to_string()).unwrap();
    (Encoder::new(schema.clone()).unwrap(), decoder)
}

fn declared(fields: &[Json]) -> RecordSchema {
    let spec = json!({"key": ["id"], "fields": fields});
    RecordSchema::of(Some(&serde_json::from_value(spec).unwrap())).unwrap()
}

fn encoded(schema: &RecordSchema, record: &Record) -> Vec<u8> {
    let mut datum = Vec::new();
    Encoder::new(schema.clone()).unwrap().encode(record, &mut datum).unwrap();
    datum
}

#[test]
fn the_registered_schema_is_the_one_that_was_reviewed() {
    insta::assert_json_snapshot!(RecordSchema::user().avro_schema());
}

#[test]
fn the_schema_of_every_type_is_the_one_that_was_reviewed() {
    insta::assert_json_snapshot!(every_type().avro_schema());
}

proptest! {
    #[test]
    fn what_is_encoded_decodes_to_the_same(record in record(&every_type())) {
        let (encoder, decoder) = pair(&every_type());
        let mut datum = Vec::new();
        encoder.encode(&record, &mut datum).unwrap();
        prop_assert_eq!(decoder.decode(&datum).unwrap(), record);
    }

    #[test]
    fn a_datum_is_the_one_that_the_library_writes(record in record(&every_type())) {
        let encoder = Encoder::new(every_type()).unwrap();
        let (mut ours, mut theirs) = (b"before".to_vec(), b"before".to_vec());
        prop_assert!(direct::append(&every_type(), &record, &mut ours));
        encoder.encode_by_library(&record, &mut theirs).unwrap();
        prop_assert_eq!(ours, theirs);
    }

    #[test]
    fn a_datum_that_ends_too_soon_is_an_error_wherever_it_ends(record in record(&every_type())) {
        let (encoder, decoder) = pair(&every_type());
        let items = ItemReader::new(&every_type().avro_schema().to_string(), None).unwrap();
        let mut datum = Vec::new();
        encoder.encode(&record, &mut datum).unwrap();
        for length in 0..datum.len() {
            prop_assert!(matches!(decoder.decode(&datum[..length]), Err(AvroError::Decode(_))), "the first {} bytes", length);
            prop_assert!(matches!(items.read(&datum[..length]), Err(AvroError::Decode(_))), "the first {} bytes", length);
        }
    }

    #[test]
    fn garbage_is_an_error_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let (_, decoder) = pair(&RecordSchema::user());
        prop_assert!(decoder.decode(&bytes).is_err());
        let _ = pair(&every_type()).1.decode(&bytes);
    }
}

#[test]
fn bytes_behind_the_datum_are_an_error() {
    let schema = declared(&[json!({"name": "id", "type": "string", "from": "/id"})]);
    let mut datum = encoded(&schema, &Record(vec![Value::String("x".into())]));
    datum.push(7);
    assert!(matches!(pair(&schema).1.decode(&datum), Err(AvroError::LeftOver(1))));
}

#[test]
fn a_reader_with_more_fields_takes_nulls_and_defaults_for_what_an_older_writer_did_not_know() {
    let id = json!({"name": "id", "type": "string", "from": "/id"});
    let old = declared(std::slice::from_ref(&id));
    let mut fields = vec![id, json!({"name": "note", "type": "string", "from": "/note", "optional": true})];
    let every = every_type();
    for (name, default) in [
        ("string", json!("é")),
        ("boolean", json!(true)),
        ("long", json!(7)),
        ("double", json!(0.5)),
        ("date", json!("2023-09-03")),
        ("timestamp", json!(1)),
        ("uuid", json!("7a0eed16-9430-4d68-901f-c0d4c1c3bf00")),
        ("json", json!([1])),
    ] {
        assert!(every.position(&format!("a_{name}")).is_some());
        fields.push(json!({"name": name, "type": name, "from": format!("/{name}"), "default": default}));
    }
    let new = declared(&fields);
    let datum = encoded(&old, &Record(vec![Value::String("x".into())]));
    let read = Decoder::new(new.clone(), &old.avro_schema().to_string())
        .unwrap()
        .decode(&datum)
        .unwrap();
    assert_eq!(read.0[1], Value::Null);
    for (field, value) in new.fields.iter().zip(&read.0).skip(2) {
        assert_eq!(Some(value), field.default.as_ref(), "{}", field.name);
    }

    // And the other way round: an older reader leaves out what it does not know
    let datum = encoded(&new, &read);
    let back = Decoder::new(old, &new.avro_schema().to_string()).unwrap().decode(&datum).unwrap();
    assert_eq!(back.0, [Value::String("x".into())]);
}

#[test]
fn a_number_that_is_none_is_not_a_record() {
    let schema = declared(&[
        json!({"name": "id", "type": "string", "from": "/id"}),
        json!({"name": "n", "type": "double", "from": "/n"}),
    ]);
    let mut datum = vec![2, b'x'];
    datum.extend(f64::NAN.to_le_bytes());
    assert!(matches!(pair(&schema).1.decode(&datum), Err(AvroError::Field { .. })));
}

#[test]
fn a_record_that_does_not_fit_the_schema_is_refused_and_nothing_is_written() {
    let schema = every_type();
    let fields = schema.fields.len();
    for values in [vec![Value::Null; fields], vec![Value::Long(1); fields], Vec::new()] {
        let mut datum = b"before".to_vec();
        let record = Record(values);
        assert!(!direct::append(&schema, &record, &mut datum));
        assert_eq!(datum, b"before");
        assert!(matches!(
            Encoder::new(schema.clone()).unwrap().encode(&record, &mut datum),
            Err(AvroError::Encode(_))
        ));
    }
}

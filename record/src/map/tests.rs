use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    convert::{FIRST_DAY, LAST_DAY, convert},
    time::{FIRST_MILLIS, LAST_MILLIS},
};

/// A user as randomuser.me gives it, from Norway: the postal code is text and the names have diacritics.
fn item() -> Json {
    json!({
        "gender": "female",
        "name": {"title": "Ms", "first": "Åse", "last": "Øvergård"},
        "location": {"street": {"number": 7, "name": "Elgveien"}, "city": "Tromsø", "state": "Troms", "country": "Norway", "postcode": "0042"},
        "email": "ase@example.com",
        "login": {"uuid": "7a0eed16-9430-4d68-901f-c0d4c1c3bf00", "username": "brownkoala245"},
        "dob": {"date": "1967-07-23T09:18:33.666Z", "age": 57},
        "registered": {"date": "2010-02-05T16:24:39Z", "age": 14},
        "phone": "70012345",
        "picture": {"medium": "https://example.com/1.jpg"}
    })
}

fn user(item: &Json) -> Record {
    match RecordSchema::user().map(item, None).unwrap() {
        Mapped::Upsert(record) => record,
        other => panic!("not an upsert: {other:?}"),
    }
}

fn value(record: &Record, name: &str) -> Value {
    record.0[RecordSchema::user().position(name).unwrap()].clone()
}

fn declared(record: Json) -> RecordSchema {
    RecordSchema::of(Some(&serde_json::from_value(record).unwrap())).unwrap()
}

#[test]
fn a_user_becomes_a_record_with_the_sources_own_identity() {
    let record = user(&item());

    assert_eq!(record.key(&RecordSchema::user()), "7a0eed16-9430-4d68-901f-c0d4c1c3bf00");
    assert_eq!(value(&record, "address"), Value::String("7 Elgveien, Tromsø, Troms, Norway".into()));
    assert_eq!(value(&record, "dob"), Value::Timestamp(-77_121_686_334));
    assert_eq!(value(&record, "post_code"), Value::String("0042".into()));
}

#[test]
fn a_postal_code_that_is_a_number_becomes_text() {
    let mut item = item();
    item["location"]["postcode"] = json!(71439);
    assert_eq!(value(&user(&item), "post_code"), Value::String("71439".into()));
}

#[test]
fn what_is_no_user_is_rejected_with_field_and_reason() {
    for (pointer, bad, field, expected) in [
        ("/login/uuid", json!("nonsense"), "id", "not a UUID"),
        ("/login/uuid", json!(7), "id", "found a number"),
        ("/name/first", json!(null), "first_name", "not optional"),
        ("/name/last", json!({}), "last_name", "found an object"),
        ("/email", json!("a\0b"), "email", "NUL"),
        ("/location/city", json!([]), "address", "found an array"),
        ("/dob/date", json!("yesterday"), "dob", "not a time"),
        ("/dob/date", json!("-000001-01-01T00:00:00Z"), "dob", "0001 to 9999"),
    ] {
        let mut item = item();
        *item.pointer_mut(pointer).unwrap() = bad;
        let reject = RecordSchema::user().map(&item, None).expect_err(pointer);
        assert_eq!(reject.field, field);
        assert!(reject.reason.contains(expected), "{reject}");
    }
    assert_eq!(RecordSchema::user().map(&json!({}), None).unwrap_err().reason, "missing");
}

#[test]
fn each_type_takes_what_it_can_hold_and_nothing_else() {
    use FieldType as T;
    let ok = Ok::<Value, &str>;
    for (field_type, json, expected) in [
        (T::String, json!("x"), ok(Value::String("x".into()))),
        (T::String, json!(1.5), ok(Value::String("1.5".into()))),
        (T::String, json!(true), Err("found a boolean")),
        (T::Boolean, json!(true), ok(Value::Boolean(true))),
        (T::Boolean, json!("true"), Err("expected true or false")),
        (T::Int, json!(i64::MIN), ok(Value::Long(i64::MIN))),
        (T::Long, json!(i64::MAX), ok(Value::Long(i64::MAX))),
        (T::Long, json!(7.0), ok(Value::Long(7))),
        (T::Long, json!(7.5), Err("whole number")),
        (T::Long, json!(u64::MAX), Err("64 bits")),
        (T::Long, json!("7"), Err("found text")),
        (T::Double, json!(7), ok(Value::Double(7.0))),
        (T::Double, json!(1e300), ok(Value::Double(1e300))),
        (T::Double, json!(null), Err("found null")),
        (T::Date, json!("1970-01-02"), ok(Value::Date(1))),
        (T::Date, json!("0001-01-01"), ok(Value::Date(FIRST_DAY))),
        (T::Date, json!("9999-12-31"), ok(Value::Date(LAST_DAY))),
        (T::Date, json!("-000001-01-01"), Err("0001 to 9999")),
        (T::Date, json!("2023-02-29"), Err("not a day")),
        (T::Timestamp, json!("1970-01-01T01:00:00.001+01:00"), ok(Value::Timestamp(1))),
        (T::Timestamp, json!("9999-12-31T23:59:59.999Z"), ok(Value::Timestamp(LAST_MILLIS))),
        (T::Timestamp, json!("9999-12-31T23:59:59.999-01:00"), Err("0001 to 9999")),
        (T::Timestamp, json!("0001-01-01T00:00:00Z"), ok(Value::Timestamp(FIRST_MILLIS))),
        (T::Timestamp, json!("9999-12-31T23:59:59.999"), Err("without a time zone")),
        (T::Timestamp, json!(1_700_000_000_123_i64), ok(Value::Timestamp(1_700_000_000_123))),
        (T::Timestamp, json!(100_000_000_000_000_000_i64), Err("0001 to 9999")),
        (
            T::Uuid,
            json!("7A0EED16-9430-4D68-901F-C0D4C1C3BF00"),
            ok(Value::Uuid("7a0eed16-9430-4d68-901f-c0d4c1c3bf00".parse().unwrap())),
        ),
        (T::Bytes, json!("AP8="), ok(Value::Bytes(vec![0, 255]))),
        (T::Bytes, json!("AP8"), ok(Value::Bytes(vec![0, 255]))),
        (T::Bytes, json!("?"), Err("not base64")),
        (
            T::Json,
            json!({"b": [1, null], "a": 1.0}),
            ok(Value::Json(r#"{"b":[1,null],"a":1.0}"#.into())),
        ),
        (T::Json, json!({"a\0": 1}), Err("NUL")),
        (T::Json, json!(["\0"]), Err("NUL")),
    ] {
        match (convert(field_type, &json), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected),
            (Err(found), Err(expected)) => assert!(found.contains(expected), "{field_type:?} {json}: {found}"),
            (found, expected) => panic!("{field_type:?} {json}: {found:?}, not {expected:?}"),
        }
    }
}

#[test]
fn what_is_missing_is_null_or_the_default_where_that_is_declared() {
    let schema = declared(json!({"key": ["id"], "fields": [
        {"name": "id", "type": "string", "from": "/id"},
        {"name": "note", "type": "string", "from": "/note", "optional": true},
        {"name": "level", "type": "int", "from": "/level", "default": 3},
        {"name": "full", "type": "string", "template": "{/a} {/b}", "default": "?"},
        {"name": "twice", "type": "long", "expr": "has(item.level) ? item.level * 2 : null", "optional": true},
    ]}));
    let record = |item: Json| match schema.map(&item, None) {
        Ok(Mapped::Upsert(record)) => record.0[1..].to_vec(),
        other => panic!("{other:?}"),
    };
    let nothing = [Value::Null, Value::Long(3), Value::String("?".into()), Value::Null];
    assert_eq!(record(json!({"id": "a"})), nothing);
    assert_eq!(record(json!({"id": "a", "note": null, "a": "x", "b": null})), nothing);
    assert_eq!(
        record(json!({"id": "a", "note": "n", "level": 4, "a": "x", "b": 1})),
        [
            Value::String("n".into()),
            Value::Long(4),
            Value::String("x 1".into()),
            Value::Long(8)
        ]
    );
}

#[test]
fn a_number_as_text_is_as_it_was_written() {
    let schema = declared(json!({"key": ["id"], "fields": [
        {"name": "id", "type": "string", "from": "/id"},
        {"name": "full", "type": "string", "template": "v{/version/0} of {/id}"},
    ]}));
    for (written, id, full) in [
        (
            r#"{"id": 100000000000000000001, "version": [1.10]}"#,
            "100000000000000000001",
            "v1.10 of 100000000000000000001",
        ),
        (r#"{"version": ["2"], "id": 1e3}"#, "1e3", "v2 of 1e3"),
        (r#"{"version": [-0], "id": -7}"#, "-7", "v-0 of -7"),
    ] {
        let item: Json = serde_json::from_str(written).unwrap();
        let Ok(Mapped::Upsert(record)) = schema.map(&item, Some(written.as_bytes())) else {
            panic!("{written}");
        };
        assert_eq!(record.0, [Value::String(id.into()), Value::String(full.into())], "{written}");
    }
    // What was no JSON is the shortest number that is the same.
    let Ok(Mapped::Upsert(record)) = schema.map(&json!({"id": 0.1, "version": [2.50]}), None) else {
        panic!("no record");
    };
    assert_eq!(record.0, [Value::String("0.1".into()), Value::String("v2.5 of 0.1".into())]);
}

fn versioned() -> RecordSchema {
    declared(
        json!({"key": ["id"], "orderBy": "at", "deleteWhen": "has(item.gone) && item.gone", "fields": [
            {"name": "id", "type": "long", "from": "/id"},
            {"name": "at", "type": "timestamp", "from": "/at"},
            {"name": "name", "type": "string", "from": "/name"},
        ]}),
    )
}

#[test]
fn an_item_that_says_so_deletes_its_record_and_needs_no_more_than_key_and_version() {
    let schema = versioned();
    let mapped = schema.map(&json!({"id": 7, "at": 5, "gone": true}), None).unwrap();
    let Mapped::Delete(record) = mapped else { panic!("{mapped:?}") };
    assert_eq!(record.0, [Value::Long(7), Value::Timestamp(5), Value::Null]);
    assert_eq!(schema.version(&record), Some(5000));
    for (item, field) in [
        (json!({"id": 7, "gone": true}), "at"),
        (json!({"id": 7, "at": 5, "gone": "yes"}), "deleteWhen"),
        (json!({"id": 7, "at": 5}), "name"),
    ] {
        assert_eq!(schema.map(&item, None).unwrap_err().field, field, "{item}");
    }
}

#[test]
fn a_record_is_kept_filtered_deleted_or_rejected() {
    let schema = declared(
        json!({"key": ["id"], "deleteWhen": "has(item.gone) && item.gone", "where": "country == 'CH' && 36 % age == 0", "fields": [
            {"name": "id", "type": "long", "from": "/id"},
            {"name": "country", "type": "string", "from": "/country", "default": "CH"},
            {"name": "age", "type": "long", "expr": "item.years * 1", "optional": true},
        ]}),
    );
    let upsert = |values: [Value; 3]| Ok(Mapped::Upsert(Record(values.to_vec())));
    let filtered = |values: [Value; 3]| Ok(Mapped::Filtered(Record(values.to_vec())));
    let (id, swiss) = (Value::Long(7), || Value::String("CH".into()));
    for (item, expected) in [
        (
            json!({"id": 7, "country": "CH", "years": 18}),
            upsert([id.clone(), swiss(), Value::Long(18)]),
        ),
        // It reads fields, not the item: a default counts.
        (json!({"id": 7, "years": 18}), upsert([id.clone(), swiss(), Value::Long(18)])),
        (
            json!({"id": 7, "country": "AT", "years": 18}),
            filtered([id.clone(), Value::String("AT".into()), Value::Long(18)]),
        ),
        (
            json!({"id": 7, "country": "CH", "years": 17}),
            filtered([id.clone(), swiss(), Value::Long(17)]),
        ),
        (
            json!({"id": 7, "country": "CH", "years": 0}),
            Err(("where", "FilterInvalid", "division by zero")),
        ),
        (
            json!({"id": 7, "country": "CH", "years": "x"}),
            Err(("age", "ExpressionFailed", "")),
        ),
        // A deletion is one whether the record would pass or not.
        (
            json!({"id": 7, "country": "AT", "years": 18, "gone": true}),
            Ok(Mapped::Delete(Record(vec![id, Value::Null, Value::Null]))),
        ),
    ] {
        let mapped = schema.map(&item, None);
        match expected {
            Ok(expected) => assert_eq!(mapped, Ok(expected), "{item}"),
            Err((field, class, reason)) => {
                let reject = mapped.unwrap_err();
                assert_eq!((reject.field.as_str(), reject.class), (field, class), "{item}");
                assert!(reject.reason.contains(reason), "{reject}");
            }
        }
    }
}

#[test]
fn the_order_of_an_item_has_the_precision_at_which_it_was_served() {
    let schema = versioned();
    let order = |at: Json, more: &[(&str, Json)]| {
        let mut item = json!({"id": 7, "at": at, "name": "a"});
        item.as_object_mut()
            .unwrap()
            .extend(more.iter().map(|(k, v)| ((*k).to_owned(), v.clone())));
        let text = item.to_string();
        schema.map_ordered(&item, Some(text.as_bytes())).unwrap().1
    };
    let at = "2024-01-02T10:11:12.123456789Z";
    assert_eq!(order(json!(at), &[]), Some(1_704_190_272_123_456_789));
    assert_eq!(order(json!(at), &[("gone", json!(true))]), Some(1_704_190_272_123_456_789));
    assert_eq!(order(json!(1_704_190_272_123_i64), &[]), Some(1_704_190_272_123_000_000));
    let numbered = declared(json!({"key": ["id"], "orderBy": "n", "fields": [
        {"name": "id", "type": "string", "from": "/id"}, {"name": "n", "type": "long", "from": "/n"}
    ]}));
    assert_eq!(numbered.map_ordered(&json!({"id": "x", "n": 5}), None).unwrap().1, Some(5));
    assert_eq!(RecordSchema::user().map_ordered(&item(), None).unwrap().1, None);
}

#[test]
fn a_key_or_version_that_a_store_cannot_hold_is_rejected() {
    let schema = declared(json!({"key": ["id"], "orderBy": "n", "fields": [
        {"name": "id", "type": "string", "from": "/id"}, {"name": "n", "type": "long", "from": "/n"}
    ]}));
    for (item, expected) in [
        (json!({"id": "", "n": 1}), "empty"),
        (json!({"id": "x".repeat(MAX_KEY + 1), "n": 1}), "2049 bytes"),
        (json!({"id": "x", "n": 0}), "above 0"),
        (json!({"id": "x", "n": -5}), "above 0"),
    ] {
        let reject = schema.map(&item, None).unwrap_err();
        assert!(reject.reason.contains(expected), "{reject}");
    }
}

#[test]
fn a_key_is_read_again_as_it_was_written() {
    for (types, item, text) in [
        (vec!["string"], json!({"k0": "a \"b\" 7"}), r#"a "b" 7"#),
        (vec!["string"], json!({"k0": "17"}), "17"),
        (vec!["long"], json!({"k0": -17}), "-17"),
        (vec!["boolean"], json!({"k0": true}), "true"),
        (vec!["date"], json!({"k0": "2023-09-03"}), "2023-09-03"),
        (vec!["timestamp"], json!({"k0": "1970-01-01T00:00:01Z"}), "1000"),
        (
            vec!["uuid"],
            json!({"k0": "7a0eed16-9430-4d68-901f-c0d4c1c3bf00"}),
            "7a0eed16-9430-4d68-901f-c0d4c1c3bf00",
        ),
        (vec!["bytes"], json!({"k0": "AP8="}), "AP8="),
        (
            vec!["string", "timestamp", "bytes"],
            json!({"k0": "17", "k1": 17, "k2": "AP8="}),
            r#"["17",17,"AP8="]"#,
        ),
    ] {
        let names: Vec<String> = (0..types.len()).map(|i| format!("k{i}")).collect();
        let fields: Vec<Json> = names
            .iter()
            .zip(&types)
            .map(|(n, t)| json!({"name": n, "type": t, "from": format!("/{n}")}))
            .collect();
        let schema = declared(json!({"key": names, "fields": fields}));
        let Ok(Mapped::Upsert(record)) = schema.map(&item, None) else {
            panic!("{item}")
        };
        assert_eq!(record.key(&schema), text);
        assert_eq!(schema.record_of_key(text).unwrap(), record);
    }
    let two = declared(
        json!({"key": ["a", "b"], "fields": [{"name": "a", "type": "long", "from": "/a"}, {"name": "b", "type": "long", "from": "/b"}]}),
    );
    for bad in ["", "7", "[1]", "[1,2,3]", "[1,\"x\"]", "{}"] {
        assert!(two.record_of_key(bad).is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_mapping_panic(text in any::<String>(), pointer in prop::sample::select(vec!["/login/uuid", "/dob/date", "/name/first", "/location/street/name"])) {
        let mut item = item();
        *item.pointer_mut(pointer).unwrap() = json!(text);
        let _ = RecordSchema::user().map(&item, None);
    }

    #[test]
    fn no_value_makes_a_conversion_panic(text in any::<String>(), number in any::<f64>(), whole in any::<i64>()) {
        use FieldType::{Boolean, Bytes, Date, Double, Int, Long, String, Timestamp, Uuid};
        for field_type in [String, Boolean, Int, Long, Double, Date, Timestamp, Uuid, Bytes, FieldType::Json] {
            for json in [json!(text), json!(number), json!(whole), json!([text, {"a": number}])] {
                let _ = convert(field_type, &json);
            }
        }
    }
}

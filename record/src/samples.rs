//! Records with fields of every type, for property tests.

use proptest::prelude::*;
use serde_json::json;
use uuid::Uuid;

use crate::{Field, FieldType, Record, RecordSchema, Value};

/// Fields of each type: required, optional, and with a default.
pub fn every_type() -> RecordSchema {
    let types = [
        ("string", json!("x")),
        ("boolean", json!(true)),
        ("int", json!(-3)),
        ("long", json!(i64::MAX)),
        ("double", json!(-0.5)),
        ("date", json!("2023-09-03")),
        ("timestamp", json!("2023-09-03T10:00:00.123Z")),
        ("uuid", json!("7a0eed16-9430-4d68-901f-c0d4c1c3bf00")),
        ("bytes", json!(null)),
        ("json", json!({"a": [1, null]})),
    ];
    let mut fields = vec![json!({"name": "id", "type": "uuid", "from": "/id"})];
    for (name, default) in types {
        fields.push(json!({"name": format!("a_{name}"), "type": name, "from": format!("/a_{name}")}));
        fields.push(json!({"name": format!("o_{name}"), "type": name, "from": format!("/o_{name}"), "optional": true}));
        // Fields of type bytes take no default.
        if name != "bytes" {
            fields.push(json!({"name": format!("d_{name}"), "type": name, "from": format!("/d_{name}"), "default": default}));
        }
    }
    let spec = serde_json::from_value(json!({"key": ["id"], "fields": fields})).expect("a declaration");
    RecordSchema::of(Some(&spec)).expect("a schema")
}

pub fn value(field: &Field) -> BoxedStrategy<Value> {
    let text = any::<String>().prop_map(|text| text.replace('\0', ""));
    let some = match field.field_type {
        FieldType::String => text.prop_map(Value::String).boxed(),
        FieldType::Boolean => any::<bool>().prop_map(Value::Boolean).boxed(),
        FieldType::Int | FieldType::Long => any::<i64>().prop_map(Value::Long).boxed(),
        FieldType::Double => any::<f64>()
            .prop_filter("finite", |n| n.is_finite())
            .prop_map(Value::Double)
            .boxed(),
        FieldType::Date => (-719_162..=2_932_896).prop_map(Value::Date).boxed(),
        FieldType::Timestamp => (-62_135_596_800_000_i64..=253_402_300_799_999).prop_map(Value::Timestamp).boxed(),
        FieldType::Uuid => any::<u128>().prop_map(|n| Value::Uuid(Uuid::from_u128(n))).boxed(),
        FieldType::Bytes => prop::collection::vec(any::<u8>(), 0..20).prop_map(Value::Bytes).boxed(),
        FieldType::Json => text
            .prop_map(|text| Value::Json(json!({"t": [text, null, 1.5]}).to_string()))
            .boxed(),
    };
    if field.optional {
        prop_oneof![Just(Value::Null), some].boxed()
    } else {
        some
    }
}

pub fn record(schema: &RecordSchema) -> impl Strategy<Value = Record> + use<> {
    schema.fields.iter().map(value).collect::<Vec<_>>().prop_map(Record)
}

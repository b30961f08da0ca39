//! A record with a field of every type, and items for it: extremes, scripts, nulls and random values.

use anyhow::{Context, Result};
use base64::{Engine, engine::general_purpose::STANDARD};
use proptest::prelude::*;
use serde_json::{Value, json};
use userpipeline_tests::declared::{self, Row};

pub const TYPES: [&str; 10] = [
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
];

/// Numbers below it, in milliseconds, are refused without `epoch`: they could be seconds.
const EPOCH_IS_CLEAR: i64 = 100_000_000_000;

/// Scripts, control characters, and what SQL, COPY, JSON or templates might interpret.
const HARD_TEXTS: [&str; 16] = [
    "",
    " ",
    "日本語",
    "العربية",
    "עִבְרִית",
    "हिन्दी",
    "👩‍👩‍👧‍👦",
    "e\u{301}",
    "\u{202e}txt",
    "'; DROP TABLE users; --",
    "\\N",
    "\\x00",
    "\"",
    "\u{1}\u{7f}",
    "\u{10ffff}",
    "{/a}",
];

fn hard(field_type: &str) -> Vec<Value> {
    match field_type {
        "string" => HARD_TEXTS
            .map(Value::from)
            .into_iter()
            .chain([json!("x".repeat(20_000)), json!(12.5)])
            .collect(),
        "boolean" => vec![json!(true), json!(false)],
        "int" | "long" => vec![json!(i64::MIN), json!(i64::MAX), json!(0), json!(-1)],
        "double" => vec![
            json!(f64::MIN),
            json!(f64::MAX),
            json!(f64::MIN_POSITIVE),
            json!(5e-324),
            json!(0.1),
            json!(7),
        ],
        "date" => vec![
            json!("0001-01-01"),
            json!("9999-12-31"),
            json!("1582-10-10"),
            json!("1969-12-31"),
            json!("2024-02-29"),
        ],
        "timestamp" => vec![
            json!("0001-01-01T00:00:00Z"),
            json!("9999-12-31T23:59:59.999Z"),
            json!("1582-10-10T00:00:00Z"),
            json!("1969-12-31T23:59:59.999Z"),
            json!("2023-09-03T12:00:00.5+02:00"),
            json!(EPOCH_IS_CLEAR),
            json!(-EPOCH_IS_CLEAR),
        ],
        "uuid" => vec![
            json!("00000000-0000-0000-0000-000000000000"),
            json!("FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF"),
        ],
        "bytes" => vec![json!(""), json!("AP+A"), json!("XHgwMA==")],
        _ => vec![
            json!({}),
            json!([]),
            json!("text"),
            json!(0),
            json!(false),
            json!({"b": [1, null, {"é": "\u{202e}"}], "a": 1e300, "": -0.5}),
        ],
    }
}

pub fn any_of(field_type: &'static str) -> BoxedStrategy<Value> {
    let text = || any::<String>().prop_map(|text| text.replace('\0', ""));
    let drawn = match field_type {
        "string" => text().prop_map(Value::from).boxed(),
        "boolean" => any::<bool>().prop_map(Value::from).boxed(),
        "int" | "long" => any::<i64>().prop_map(Value::from).boxed(),
        "double" => any::<f64>().prop_filter("finite", |n| n.is_finite()).prop_map(Value::from).boxed(),
        "date" => (-719_162..=2_932_896_i64)
            .prop_map(|days| {
                json!(
                    jiff::civil::date(1970, 1, 1)
                        .checked_add(jiff::Span::new().days(days))
                        .expect("a day that there is")
                        .to_string()
                )
            })
            .boxed(),
        "timestamp" => prop_oneof![-62_135_596_800_000..=-EPOCH_IS_CLEAR, EPOCH_IS_CLEAR..=253_402_300_799_999_i64]
            .prop_map(Value::from)
            .boxed(),
        "uuid" => any::<u128>().prop_map(|n| json!(uuid::Uuid::from_u128(n).to_string())).boxed(),
        "bytes" => prop::collection::vec(any::<u8>(), 0..200)
            .prop_map(|bytes| json!(STANDARD.encode(bytes)))
            .boxed(),
        _ => (text(), any::<i64>(), text())
            .prop_map(|(key, n, text)| json!({key: [n, text, null]}))
            .boxed(),
    };
    prop_oneof![1 => prop::sample::select(hard(field_type)), 2 => drawn].boxed()
}

/// A required and an optional field of each type.
pub fn every_type() -> Value {
    let mut fields = vec![
        json!({"name": "device", "type": "string", "from": "/device"}),
        json!({"name": "seq", "type": "long", "from": "/seq"}),
        json!({"name": "label", "type": "string", "template": "{/device}#{/seq}"}),
        json!({"name": "level", "type": "int", "from": "/level", "default": 3}),
        json!({"name": "next", "type": "long", "expr": "item.seq + 1"}),
    ];
    for field_type in TYPES {
        fields.push(json!({"name": format!("a_{field_type}"), "type": field_type, "from": format!("/a/{field_type}")}));
        fields.push(json!({"name": format!("o_{field_type}"), "type": field_type, "from": format!("/o/{field_type}"), "optional": true}));
    }
    json!({"name": "Reading", "namespace": "dev.userpipeline.tests", "key": ["device", "seq"], "clusterBy": ["seq"], "fields": fields})
}

/// The expected row of an item.
pub fn row_of(item: &Value) -> Result<Row> {
    let (device, seq) = (item["device"].as_str().context("device")?, item["seq"].as_i64().context("seq")?);
    let mut row = Row::from([
        ("device".to_owned(), Some(device.to_owned())),
        ("seq".to_owned(), Some(seq.to_string())),
        ("label".to_owned(), Some(format!("{device}#{seq}"))),
        ("level".to_owned(), Some(item["level"].as_i64().unwrap_or(3).to_string())),
        ("next".to_owned(), Some((seq + 1).to_string())),
    ]);
    for field_type in TYPES {
        for part in ["a", "o"] {
            let value = &item[part][field_type];
            let text = match (field_type, value) {
                ("bytes", Value::String(text)) => Some(hexadecimal(text)?),
                ("string", Value::Number(number)) => Some(number.to_string()),
                _ => declared::text(field_type, value)?,
            };
            row.insert(format!("{part}_{field_type}"), text);
        }
    }
    Ok(row)
}

/// Converts served bytes to the form in which both stores are read.
pub fn hexadecimal(base64: &str) -> Result<String> {
    let bytes = STANDARD.decode(base64)?;
    Ok(bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}")))
}

//! Which records pass, which do not, and which expressions are refused.

use userpipeline_api::FieldType;
use uuid::Uuid;

use super::super::Filter;
use crate::value::{Record, Value};

const FIELDS: [(&str, FieldType); 10] = [
    ("country", FieldType::String),
    ("age", FieldType::Long),
    ("score", FieldType::Double),
    ("active", FieldType::Boolean),
    ("born", FieldType::Date),
    ("seen", FieldType::Timestamp),
    ("id", FieldType::Uuid),
    ("picture", FieldType::Bytes),
    ("extra", FieldType::Json),
    ("none", FieldType::Long),
];

/// Seen at 2024-03-01T00:00:00.250Z, born on 1990-01-02.
fn record() -> Record {
    Record(vec![
        Value::String("CH".into()),
        Value::Long(18),
        Value::Double(1.5),
        Value::Boolean(true),
        Value::Date(7306),
        Value::Timestamp(1_709_251_200_250),
        Value::Uuid(Uuid::from_u128(7)),
        Value::Bytes(vec![0xff, 0x00]),
        Value::Json(r#"{"level": 3.0, "tags": ["a", "b"], "nil": null}"#.into()),
        Value::Null,
    ])
}

fn passes(text: &str, record: &Record) -> Result<bool, String> {
    Filter::compile(text, &FIELDS)
        .unwrap_or_else(|error| panic!("{error}"))
        .passes(record)
}

#[test]
fn a_record_passes_if_the_expression_is_true() {
    for (text, expected) in [
        ("country == 'CH' && age >= 18", true),
        ("country == 'CH' && age > 18", false),
        ("country in ['AT', 'CH'] || false", true),
        ("country.startsWith('C') && size(country) == 2", true),
        // Numbers are equal however they are written.
        ("age == 18.0 && score > 1 && score * 2.0 == 3", true),
        ("age < score", false),
        ("active", true),
        ("!active", false),
        ("born == timestamp('1990-01-02T00:00:00Z')", true),
        ("born < timestamp('1990-01-02T00:00:00.001Z') && born.getFullYear() == 1990", true),
        ("seen > timestamp('2024-03-01T01:00:00.249+01:00')", true),
        ("seen - born > duration('24h') && seen == born + (seen - born)", true),
        ("id == '00000000-0000-0000-0000-000000000007'", true),
        ("size(picture) == 2 && picture == b'\\xff\\x00'", true),
        ("extra.level == 3 && 'a' in extra.tags", true),
        ("extra.tags.exists(country, country == 'b')", true),
        ("has(extra.missing) || extra.level > 5", false),
        ("none == null", true),
        // As anything else, null is unequal to a number, and in no list of them.
        ("none != 5 && !(none in [1, 2])", true),
        ("true", true),
        ("age > 5 ? country == 'CH' : false", true),
    ] {
        assert_eq!(passes(text, &record()), Ok(expected), "{text}");
    }
}

#[test]
fn a_record_without_a_needed_value_does_not_pass() {
    for text in [
        "none > 18",
        "!(none > 18)",
        "18 < none",
        "none + 1 == 2",
        "1 + none == 2",
        "-none < 0",
        "none * 2 > 1 || none / 2 > 1 || 2 % none > 1",
        "active && none > 18",
        "none > 18 && active",
        "string(none) == ''",
        "double(none) > 1.0",
        "timestamp(none) > seen",
        "extra.nil > 1",
        "extra.nil.deeper == 1",
        "extra.nil.startsWith('a')",
        "extra.nil.matches('a')",
        "'a' in extra.nil",
        "extra.nil.exists(x, x == 1)",
        "extra.nil",
        "extra.nil && active",
        "active && extra.nil",
        "!extra.nil",
        "extra.nil ? active : active",
    ] {
        assert_eq!(passes(text, &record()), Ok(false), "{text}");
    }
    // What decides without it, decides.
    for (text, expected) in [
        ("none > 18 || active", true),
        ("active || none > 18", true),
        ("none > 18 && !active", false),
    ] {
        assert_eq!(passes(text, &record()), Ok(expected), "{text}");
    }
}

#[test]
fn an_error_is_neither_true_nor_false_and_does_not_quote_the_record() {
    let mut record = record();
    record.0[0] = Value::String("secret".into());
    for (text, says) in [
        ("int(country) > 1", "int"),
        ("age / (age - 18) > 1", "division by zero"),
        ("extra.missing == 1", "No such key: missing"),
        ("extra.tags[5] == 'a'", "Index out of bounds"),
        ("extra.level", "expected true or false, found a value of type float"),
        ("extra.tags > 5", "No such overload"),
        ("extra.tags.all(x, extra.tags.all(y, age / 0 > 1))", "division by zero"),
        ("timestamp(country) > seen", "timestamp"),
    ] {
        let error = passes(text, &record).unwrap_err();
        assert!(error.contains(says) && !error.contains("secret"), "{text}: {error}");
    }
    let many: Vec<u32> = (0..2000).collect();
    record.0[8] = Value::Json(serde_json::to_string(&many).unwrap());
    let error = passes("extra.all(x, extra.all(y, x + y >= 0)) || true", &record).unwrap_err();
    assert!(error.contains("1,000,000 steps"), "{error}");
}

#[test]
fn an_expression_that_can_never_be_right_is_refused_with_its_position() {
    for (text, says) in [
        (
            "contry == 'CH'",
            "`contry == 'CH'` reads `contry` at 1:1, which is not among spec.record.fields",
        ),
        ("country == 'CH' &&\n  ages > 1", "reads `ages` at 2:3"),
        (
            "item.country == 'CH'",
            "reads `item` at 1:1, which is not among spec.record.fields; it reads fields by their names",
        ),
        ("country == 'CH", "is not a CEL expression: 1:"),
        ("country ==", "is not a CEL expression: 1:"),
        ("", "is not a CEL expression"),
        // It would give another answer each time.
        ("seen > now()", "calls `now` at 1:8, which does not exist"),
        ("age", "gives a number, not true or false"),
        ("null", "gives null, not true or false"),
        ("country + 'x'", "gives text, not true or false"),
        ("active ? country : 'x'", "gives text"),
        ("[1].map(x, x)", "gives a list"),
        ("seen - born", "gives a duration"),
        (
            "active && country == 18",
            "compares text with a number, which are never equal, at 1:11",
        ),
        ("age >= '18'", "compares a number with text, which have no order, at 1:1"),
        (
            "seen > '2024-01-01'",
            "compares a timestamp with text, which have no order, at 1:1; write timestamp('2024-01-31T00:00:00Z')",
        ),
        ("born.getFullYear() == '1990'", "compares a number with text"),
        ("extra.tags.exists(t, t == 'a' && country == 1)", "compares text with a number"),
        (
            "age && active",
            "combines a number with `&&`, `||` or `!`, which take true or false, at 1:1",
        ),
        ("!country", "combines text"),
        (&format!("country == '{}'", "x".repeat(1024)), "at most 1024"),
    ] {
        let error = Filter::compile(text, &FIELDS).unwrap_err();
        assert!(error.contains(says), "{text}: {error}");
    }
    // What a loop's variable holds depends on the record, also where it has the name of a field.
    assert!(Filter::compile("extra.tags.exists(age, age == 'a')", &FIELDS).is_ok());
}

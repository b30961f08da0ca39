//! Maps an item by the texts of its members, without building it. What that does not map is left to a parser, which then has the
//! reason of a reject.

use serde_json::Value as Json;
use userpipeline_api::FieldType;
use uuid::Uuid;

use crate::{Field, Mapped, Members, Record, RecordSchema, Value, convert::convert, members::Source};

impl RecordSchema {
    /// Maps an item, with the value of `orderBy` as [`RecordSchema::map_ordered`] has it. `members`: those of this schema. None if the
    /// item has to be parsed: it may be a record or not.
    pub fn map_text(&self, item: &str, members: &Members) -> Option<(Mapped, Option<i64>)> {
        let texts = members.find(item)?;
        self.map_members(members, |field, source, nanos| match source {
            Source::Value(position) => value(field, texts[*position], nanos),
            Source::Template(parts, end) => fill(field, parts, end, &texts),
        })
    }

    /// Maps an item whose members were found. `read` reads a field from its source, and the time as it was served if it is that of
    /// `orderBy`.
    pub(super) fn map_members(
        &self,
        members: &Members,
        read: impl Fn(&Field, &Source, Option<&mut Option<i64>>) -> Option<Value>,
    ) -> Option<(Mapped, Option<i64>)> {
        let mut nanos = None;
        let mut values = Vec::with_capacity(self.fields.len());
        for (field, source) in self.fields.iter().zip(members.fields()) {
            let nanos = if self.order_by.as_ref() == Some(&field.name) {
                Some(&mut nanos)
            } else {
                None
            };
            values.push(read(field, source, nanos)?);
        }
        let record = Record(values);
        self.check(&record).ok()?;
        let order = self.order(&record, nanos);
        // The item has the reason of a reject.
        Some((self.filter(record).ok()?, order))
    }
}

/// `nanos` becomes the time as it was served, for a field of type timestamp.
fn value(field: &Field, text: &str, nanos: Option<&mut Option<i64>>) -> Option<Value> {
    if is_absent(text) {
        return absent(field);
    }
    let is_text = text.starts_with('"');
    match field.field_type {
        FieldType::String => plain_text(text).map(Value::String),
        FieldType::Int | FieldType::Long if !is_text => text.parse().ok().map(Value::Long),
        FieldType::Uuid if is_text => Uuid::try_parse(unescaped(text)?).ok().map(Value::Uuid),
        FieldType::Timestamp => {
            let time = match unescaped(text) {
                Some(text) => field.time_form.read_text(text, false),
                None => field.time_form.read(&parsed(text)?, false),
            };
            let time = time.ok()?;
            if let Some(nanos) = nanos {
                *nanos = Some(time.nanos);
            }
            Some(Value::Timestamp(time.millis))
        }
        _ => convert(field.field_type, &parsed(text)?).ok(),
    }
}

fn fill(field: &Field, parts: &[(String, usize)], end: &str, texts: &[&str]) -> Option<Value> {
    let mut filled = String::with_capacity(64);
    for (before, position) in parts {
        let text = texts[*position];
        if is_absent(text) {
            return RecordSchema::may_lack(field).then(|| field.default.clone().unwrap_or(Value::Null));
        }
        filled.push_str(before);
        match unescaped(text) {
            Some(text) => filled.push_str(text),
            None => filled.push_str(&plain_text(text)?),
        }
    }
    filled.push_str(end);
    Some(Value::String(filled))
}

fn is_absent(text: &str) -> bool {
    text.is_empty() || text == "null"
}

pub(super) fn absent(field: &Field) -> Option<Value> {
    match &field.default {
        Some(default) => Some(default.clone()),
        None => field.optional.then_some(Value::Null),
    }
}

/// A text without escapes, without its quotes. It has no NUL, because JSON has no control characters.
fn unescaped(text: &str) -> Option<&str> {
    let text = text.strip_prefix('"')?.strip_suffix('"')?;
    (!text.contains('\\')).then_some(text)
}

/// Text, or a number as it was served.
fn plain_text(text: &str) -> Option<String> {
    if let Some(text) = unescaped(text) {
        return Some(text.to_owned());
    }
    match parsed(text)? {
        Json::String(text) => (!text.contains('\0')).then_some(text),
        Json::Number(_) => Some(text.to_owned()),
        _ => None,
    }
}

fn parsed(text: &str) -> Option<Json> {
    serde_json::from_str(text).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{map::Reject, parse_item};

    fn schema() -> RecordSchema {
        let optional = |name: &str, kind: &str| json!({"name": name, "type": kind, "from": format!("/more/{name}"), "optional": true});
        let mut fields = vec![
            json!({"name": "id", "type": "string", "from": "/id"}),
            json!({"name": "at", "type": "timestamp", "from": "/at"}),
            json!({"name": "seconds", "type": "timestamp", "from": "/more/timestamp", "epoch": "Seconds", "optional": true}),
            json!({"name": "count", "type": "long", "from": "/more/deep/count", "default": 7}),
            json!({"name": "name", "type": "string", "template": "{/id}: {/more/string} {/more/long}, {/na~1me}", "optional": true}),
            json!({"name": "required", "type": "string", "template": "{/id}-{/na~1me}"}),
        ];
        for kind in [
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
        ] {
            fields.push(optional(kind, kind));
        }
        // It passes, does not pass, meets null, and fails.
        let filter = "string != 'a' && (double < 5.0 || 7 / long > 0)";
        let record = json!({"key": ["id"], "orderBy": "at", "where": filter, "fields": fields});
        RecordSchema::read(Some(&serde_json::from_value(record).unwrap())).unwrap()
    }

    fn parsed(schema: &RecordSchema, text: &str) -> Result<(Mapped, Option<i64>), Option<Reject>> {
        let item = parse_item(text, &schema.item_reads()).map_err(|_| None)?;
        schema.map_ordered(&item, Some(text.as_bytes())).map_err(Some)
    }

    fn mapped(schema: &RecordSchema, text: &str) -> Option<(Mapped, Option<i64>)> {
        schema.map_text(text, &Members::of(schema).unwrap())
    }

    /// Values that fit some of the fields, as JSON.
    fn any_value() -> impl Strategy<Value = String> {
        let texts = prop::sample::select(vec![
            "\"\"",
            "\"a\"",
            "\"Zo\u{eb}\"",
            "\"\\u00e9\"",
            "\"\\u0000\"",
            "\"\\ud83d\\ude00\"",
            "\"\\ud800\"",
            "\"a\\\"b\"",
            "\"YQ==\"",
            "\"2023-09-03\"",
            "\"2023-09-03T10:00:00.123456Z\"",
            "\"9999-12-31T23:59:59Z\"",
            "\"1704190272\"",
            "\"soon\"",
            "\"7a0eed16-9430-4d68-901f-c0d4c1c3bf00\"",
            "\"7A0EED1694304d68901fc0d4c1c3bf00\"",
        ]);
        let others = prop::sample::select(vec![
            "null",
            "true",
            "false",
            "0",
            "-0",
            "7",
            "-12",
            "1.0",
            "1.10",
            "1e3",
            "1e400",
            "1704190272",
            "1704190272123",
            "0.1",
            "9223372036854775807",
            "9223372036854775808",
            "123456789012345678901234567890",
            "[]",
            "[1,\"a\"]",
            "{}",
            "{\"a\":1.50}",
            "{\"count\":3}",
            "{\"count\":null,\"x\":[{}]}",
        ]);
        prop_oneof![texts, others].prop_map(str::to_owned)
    }

    fn object(names: Vec<&'static str>, value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
        let member = (prop::sample::select(names), value).prop_map(|(name, value)| format!("\"{name}\" : {value}"));
        prop::collection::vec(member, 0..12).prop_map(|members| format!("{{{}\n}}", members.join(" ,")))
    }

    fn any_item() -> impl Strategy<Value = String> {
        let kinds = vec![
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
        let more = prop_oneof![3 => object(kinds, any_value()), 1 => any_value()];
        (
            more,
            object(vec!["na/me", "at", "other", "\\u0061t"], any_value()),
            any::<bool>(),
            any::<bool>(),
        )
            .prop_map(|(more, rest, has_id, has_time)| {
                let id = if has_id { "\"id\": \"1\", \"na/me\": \"n\"," } else { "" };
                let time = if has_time { "\"at\": \"2023-09-03T10:00:00.123456Z\"," } else { "" };
                format!("{{{id} {time} \"more\": {more}, \"rest\": {rest}}}")
            })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn a_record_is_the_same_as_that_of_the_parsed_item(item in prop_oneof![4 => any_item(), 1 => any_value()]) {
            let schema = schema();
            if let Some(mapped) = mapped(&schema, &item) {
                prop_assert_eq!(Ok(mapped), parsed(&schema, &item), "{}", item);
            }
        }
    }

    #[test]
    fn most_records_need_no_parser() {
        for text in [
            r#"{"id": "1", "at": "2023-09-03T10:00:00Z", "na/me": "n", "more": {"string": "Zoë", "long": 7, "deep": {"count": 3}}}"#,
            r#"{"id": "1", "at": 1704190272123, "na/me": 7, "more": null, "other": ["\u00e9", {"a": 1e3}]}"#,
            r#"{"id": "\u00e9", "at": "2023-09-03T10:00:00Z", "na/me": "a\"b", "more": {"double": 1, "boolean": true, "json": {"a": [1.50]}}}"#,
        ] {
            let schema = schema();
            let record = mapped(&schema, text);
            assert_eq!(record, parsed(&schema, text).ok(), "{text}");
            assert!(record.is_some(), "{text}");
        }
    }

    #[test]
    fn a_parser_decides_about_an_item_that_is_not_plain() {
        for text in [
            "17",
            "[]",
            r#"{"id": "1", "at": "2023-09-03T10:00:00Z"}"#,
            r#"{"id": "1", "id": "2", "at": "2023-09-03T10:00:00Z", "na/me": "n"}"#,
            r#"{"\u0069d": "1", "at": "2023-09-03T10:00:00Z", "na/me": "n"}"#,
            r#"{"id": "1", "at": "2023-09-03T10:00:00Z", "na/me": "n", "x": "\ud83d\ude00"}"#,
            r#"{"id": "1", "at": "2023-09-03T10:00:00Z", "na/me": "n", "x": 1e999}"#,
            r#"{"id": "1", "at": "2023-09-03T10:00:00Z", "na/me": "n", "more": {}, "more": {}}"#,
            r#"{"id": "1", "at": "2023-09-03T10:00:00Z", "na/me": "n", "more": []}"#,
            r#"{"id": "", "at": "2023-09-03T10:00:00Z", "na/me": "n"}"#,
            r#"{"id": "\u0000", "at": "2023-09-03T10:00:00Z", "na/me": "n"}"#,
            r#"{"id": "1", "at": "soon", "na/me": "n"}"#,
            r#"{"id": "1", "at": "1960-09-03T10:00:00Z", "na/me": "n"}"#,
            r#"{"id": "1", "at": "2023-09-03T10:00:00Z", "na/me": "n", "more": {"long": "7"}}"#,
        ] {
            assert_eq!(mapped(&schema(), text), None, "{text}");
        }
    }

    #[test]
    fn a_record_with_expressions_or_overlapping_pointers_is_not_made_of_members() {
        for fields in [
            json!([{"name": "id", "type": "string", "expr": "item.id"}]),
            json!([{"name": "id", "type": "string", "from": "/id"}, {"name": "all", "type": "json", "from": ""}]),
            json!([{"name": "id", "type": "string", "from": "/a"}, {"name": "b", "type": "json", "from": "/a/b"}]),
            json!([{"name": "id", "type": "string", "from": "/a/b"}, {"name": "b", "type": "json", "from": "/a"}]),
            json!([{"name": "id", "type": "string", "from": "/a".repeat(21)}]),
        ] {
            let record = json!({"key": ["id"], "fields": fields});
            let schema = RecordSchema::read(Some(&serde_json::from_value(record).unwrap())).unwrap();
            assert_eq!(Members::of(&schema), None, "{fields}");
        }
        assert!(Members::of(&RecordSchema::user()).is_some());
    }
}

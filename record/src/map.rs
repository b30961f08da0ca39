//! From a source's JSON item to a record.

use jiff::Timestamp;
use serde_json::Value as Json;
use uuid::Uuid;

use crate::{Field, FieldType, Origin, Record, RecordSchema, Value};

/// Years that every store and Avro reader can hold: 0001 to 9999.
const FIRST_MILLIS: i64 = -62_135_596_800_000;
const LAST_MILLIS: i64 = 253_402_300_799_999;

/// Why an item is no record: kept with the item's raw text, never dropped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("field `{field}` (from {from}): {reason}")]
pub struct Reject {
    /// The field.
    pub field: String,
    /// The pointer that was followed.
    pub from: String,
    /// What is wrong, and what was expected.
    pub reason: String,
}

impl RecordSchema {
    /// Maps one item.
    pub fn map(&self, item: &Json) -> Result<Record, Reject> {
        self.fields
            .iter()
            .map(|field| map_field(field, item))
            .collect::<Result<_, _>>()
            .map(Record)
    }
}

fn map_field(field: &Field, item: &Json) -> Result<Value, Reject> {
    match &field.from {
        Origin::Pointer(pointer) => {
            let reject = |reason: String| Reject {
                field: field.name.clone(),
                from: pointer.clone(),
                reason,
            };
            match item.pointer(pointer) {
                None | Some(Json::Null) if field.optional => Ok(Value::Null),
                None => Err(reject("missing".to_owned())),
                Some(Json::Null) => Err(reject("null, but the field is not optional".to_owned())),
                Some(json) => convert(field.field_type, json).map_err(reject),
            }
        }
        Origin::Template(template) => fill(field, template, item),
    }
}

/// Fills the pointers in a template. A part that is missing or null makes an optional field null.
fn fill(field: &Field, template: &str, item: &Json) -> Result<Value, Reject> {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (pointer, after) = after.split_once('}').unwrap_or((after, ""));
        let reject = |reason: String| Reject {
            field: field.name.clone(),
            from: pointer.to_owned(),
            reason,
        };
        text.push_str(before);
        match item.pointer(pointer) {
            None | Some(Json::Null) if field.optional => return Ok(Value::Null),
            None => return Err(reject("missing".to_owned())),
            Some(json) => text.push_str(&plain_text(json).map_err(reject)?),
        }
        rest = after;
    }
    text.push_str(rest);
    Ok(Value::String(text))
}

fn convert(field_type: FieldType, json: &Json) -> Result<Value, String> {
    match field_type {
        FieldType::String => plain_text(json).map(Value::String),
        FieldType::Uuid => {
            let text = json
                .as_str()
                .ok_or_else(|| format!("expected a UUID as text, found {}", kind(json)))?;
            Uuid::try_parse(text).map(Value::Uuid).map_err(|e| format!("not a UUID: {e}"))
        }
        FieldType::Timestamp => {
            let text = json
                .as_str()
                .ok_or_else(|| format!("expected a time such as 2023-09-03T10:00:00Z as text, found {}", kind(json)))?;
            let time: Timestamp = text.parse().map_err(|e| format!("not a time such as 2023-09-03T10:00:00Z: {e}"))?;
            check_millis(time.as_millisecond()).map(Value::Timestamp)
        }
    }
}

/// Refuses a time that a store cannot hold.
pub(crate) fn check_millis(millis: i64) -> Result<i64, String> {
    if (FIRST_MILLIS..=LAST_MILLIS).contains(&millis) {
        Ok(millis)
    } else {
        Err("a time outside of the years 0001 to 9999, which is what the stores can hold".to_owned())
    }
}

/// Text, or a number as it was written: a postal code is either, depending on the country.
fn plain_text(json: &Json) -> Result<String, String> {
    match json {
        Json::String(text) if text.contains('\0') => Err("contains a NUL character, which PostgreSQL text cannot hold".to_owned()),
        Json::String(text) => Ok(text.clone()),
        Json::Number(number) => Ok(number.to_string()),
        other => Err(format!("expected text or a number, found {}", kind(other))),
    }
}

const fn kind(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "a boolean",
        Json::Number(_) => "a number",
        Json::String(_) => "text",
        Json::Array(_) => "an array",
        Json::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

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

    fn value(record: &Record, name: &str) -> Value {
        let schema = RecordSchema::user();
        let position = schema.fields.iter().position(|f| f.name == name).unwrap();
        record.0[position].clone()
    }

    #[test]
    fn a_user_becomes_a_record_with_the_sources_own_identity() {
        let record = RecordSchema::user().map(&item()).unwrap();

        assert_eq!(record.key(&RecordSchema::user()), "7a0eed16-9430-4d68-901f-c0d4c1c3bf00");
        assert_eq!(value(&record, "address"), Value::String("7 Elgveien, Tromsø, Troms, Norway".into()));
        assert_eq!(value(&record, "dob"), Value::Timestamp(-77_121_686_334));
        assert_eq!(value(&record, "post_code"), Value::String("0042".into()));
    }

    #[test]
    fn a_postal_code_that_is_a_number_becomes_text() {
        let mut item = item();
        item["location"]["postcode"] = json!(71439);
        assert_eq!(
            value(&RecordSchema::user().map(&item).unwrap(), "post_code"),
            Value::String("71439".into())
        );
    }

    #[test]
    fn what_is_no_user_is_rejected_with_field_and_reason() {
        for (pointer, bad, field, says) in [
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
            let reject = RecordSchema::user().map(&item).expect_err(pointer);
            assert_eq!(reject.field, field);
            assert!(reject.reason.contains(says), "{reject}");
        }
        assert_eq!(RecordSchema::user().map(&json!({})).unwrap_err().reason, "missing");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_mapping_panic(text in any::<String>(), pointer in prop::sample::select(vec!["/login/uuid", "/dob/date", "/name/first", "/location/street/name"])) {
            let mut item = item();
            *item.pointer_mut(pointer).unwrap() = json!(text);
            let _ = RecordSchema::user().map(&item);
        }
    }
}

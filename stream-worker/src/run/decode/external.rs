//! Messages of an external producer: items, mapped to records like those of any source. Pure.

use serde_json::Value as Json;
use userpipeline_api::Changes;
use userpipeline_record::{FILTER_INVALID, Mapped, Members, RecordSchema, avro::ItemReader, check_weight};

use super::decoded::Decoded;
use crate::model::{Message, RecordFault, VersionedRecord};

/// The item in a message that holds a JSON document.
fn document(payload: &[u8]) -> Result<Json, RecordFault> {
    check_weight(payload).map_err(|why| RecordFault::new("JsonInvalid", why))?;
    serde_json::from_slice(payload).map_err(|e| RecordFault::new("JsonInvalid", format!("the message's value is no JSON: {e}")))
}

/// The record in a message that holds a JSON document. `members`: those that the record is made of, if it is only members.
pub fn from_json(schema: &RecordSchema, members: Option<&Members>, payload: &[u8], message: &Message) -> Result<Decoded, RecordFault> {
    let text = std::str::from_utf8(payload).ok();
    match text.zip(members).and_then(|(text, members)| schema.map_text(text, members)) {
        Some((mapped, order)) => decoded(schema, mapped, order, message),
        // A parser decides, and has the reason of a fault.
        None => record(schema, &document(payload)?, Some(payload), message),
    }
}

/// The record in a message that holds a datum.
pub fn from_avro(schema: &RecordSchema, reader: &ItemReader, datum: &[u8], message: &Message) -> Result<Decoded, RecordFault> {
    if let Some((mapped, order)) = reader.record(schema, datum) {
        return decoded(schema, mapped, order, message);
    }
    // The item decides, and has the reason of a fault.
    let item = reader
        .read(datum)
        .map_err(|e| RecordFault::quoting("DecodeFailed", e.to_string()))?;
    record(schema, &item, None, message)
}

/// The record of an item, which carries its own version; `text` is the item as JSON, if it is JSON. The message's key is not
/// read: external producers choose it.
pub fn record(schema: &RecordSchema, item: &Json, text: Option<&[u8]>, message: &Message) -> Result<Decoded, RecordFault> {
    let (mapped, order) = schema.map_ordered(item, text).map_err(|reject| {
        let place = if reject.field.is_empty() {
            "the record".to_owned()
        } else if reject.class == FILTER_INVALID {
            "spec.record.where".to_owned()
        } else {
            format!("field `{}`", reject.field)
        };
        let class = if reject.class == FILTER_INVALID {
            FILTER_INVALID
        } else {
            "RecordInvalid"
        };
        RecordFault::new(class, format!("{place}, from {}: {}", reject.from, reject.reason))
    })?;
    decoded(schema, mapped, order, message)
}

fn decoded(schema: &RecordSchema, mapped: Mapped, order: Option<i64>, message: &Message) -> Result<Decoded, RecordFault> {
    let (record, outcome): (_, fn(VersionedRecord) -> Decoded) = match mapped {
        Mapped::Upsert(record) => (record, Decoded::Upsert),
        Mapped::Filtered(record) if schema.changes == Changes::Never => (record, |_| Decoded::Skipped),
        Mapped::Filtered(record) => (record, Decoded::Filtered),
        Mapped::Delete(record) => (record, Decoded::Delete),
    };
    let version = schema
        .version(&record)
        .ok_or_else(|| RecordFault::new("VersionInvalid", "the field that spec.record.orderBy names holds no version"))?;
    Ok(outcome(VersionedRecord {
        origin: message.origin(),
        key: record.key(schema),
        version,
        order,
        record,
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> RecordSchema {
        let declared = json!({"key": ["device", "at"], "orderBy": "at", "deleteWhen": "has(item.gone)", "fields": [
            {"name": "device", "type": "string", "from": "/device"},
            {"name": "at", "type": "timestamp", "from": "/at"},
            {"name": "celsius", "type": "double", "from": "/celsius"},
        ]});
        RecordSchema::of(Some(&serde_json::from_value(declared).unwrap())).unwrap()
    }

    #[test]
    fn an_item_carries_its_own_key_and_version() {
        let message = Message {
            partition: 2,
            offset: 9,
            key: Some(b"whatever".to_vec()),
            ..Message::default()
        };
        let decode = |item| record(&schema(), &item, None, &message).unwrap();
        let Decoded::Upsert(found) = decode(json!({"device": "d1", "at": 5, "celsius": 1.5})) else {
            panic!("an item is an upsert")
        };
        assert_eq!((found.origin, found.key.as_str(), found.version), ((2, 9), r#"["d1",5]"#, 5000));
        assert_eq!(found.order, Some(5_000_000));
        let deleted = decode(json!({"device": "d1", "at": 5, "gone": true}));
        assert!(matches!(deleted, Decoded::Delete(_)), "{deleted:?}");
    }

    #[test]
    fn a_document_is_the_same_record_whether_it_is_parsed_or_not() {
        let declared = json!({"key": ["id"], "orderBy": "at", "fields": [
            {"name": "id", "type": "string", "from": "/id"},
            {"name": "at", "type": "long", "from": "/at"},
        ]});
        let schema = RecordSchema::of(Some(&serde_json::from_value(declared).unwrap())).unwrap();
        let members = Members::of(&schema);
        let message = Message::default();
        for (text, class) in [
            (r#"{"id": "d1", "at": 5, "more": [1.50]}"#, None),
            (r#"{"id": "d\u00e9", "at": 5}"#, None),
            (r#"{"id": "d1", "at": 5, "id": "d2"}"#, None),
            (r#"{"id": "d1"}"#, Some("RecordInvalid")),
            (r#"{"id": "d1", "at": "soon"}"#, Some("RecordInvalid")),
            (r#"{"id": "d1", "at": 5"#, Some("JsonInvalid")),
            ("", Some("JsonInvalid")),
        ] {
            let read = |members| from_json(&schema, members, text.as_bytes(), &message);
            assert_eq!(read(members.as_ref()), read(None), "{text}");
            assert_eq!(read(members.as_ref()).err().map(|fault| fault.class), class, "{text}");
        }
        let not_text = from_json(&schema, members.as_ref(), b"{\"id\": \"\xff\", \"at\": 5}", &message);
        assert_eq!(not_text.unwrap_err().class, "JsonInvalid");
    }

    #[test]
    fn an_item_that_does_not_pass_the_filter_is_told_from_one_that_cannot_be_judged() {
        let declared = json!({"key": ["id"], "orderBy": "at", "where": "100 / age > 2", "fields": [
            {"name": "id", "type": "string", "from": "/id"},
            {"name": "at", "type": "long", "from": "/at"},
            {"name": "age", "type": "long", "from": "/age", "optional": true},
        ]});
        let schema = RecordSchema::of(Some(&serde_json::from_value(declared).unwrap())).unwrap();
        let members = Members::of(&schema);
        assert!(members.is_some());
        let message = Message::default();
        for (age, expected) in [("18", Ok(false)), ("50", Ok(true)), ("null", Ok(true)), ("0", Err("FilterInvalid"))] {
            let text = format!(r#"{{"id": "d1", "at": 5, "age": {age}}}"#);
            let read = |members| from_json(&schema, members, text.as_bytes(), &message);
            assert_eq!(read(members.as_ref()), read(None), "{text}");
            let is_filtered = read(None).map(|decoded| matches!(decoded, Decoded::Filtered(_)));
            assert_eq!(is_filtered.map_err(|fault| fault.class), expected, "{text}");
        }
        let events = RecordSchema {
            changes: Changes::Never,
            ..schema.clone()
        };
        let event = from_json(&events, members.as_ref(), br#"{"id": "d1", "at": 5, "age": 50}"#, &message);
        assert_eq!(event, Ok(Decoded::Skipped), "nothing is kept of an event");
        let fault = from_json(&schema, None, br#"{"id": "d1", "at": 5, "age": 0}"#, &message).unwrap_err();
        assert_eq!(fault.message, "spec.record.where, from 100 / age > 2: division by zero");
    }

    #[test]
    fn an_item_that_cannot_be_mapped_is_a_fault_with_its_reason() {
        let message = Message::default();
        let fault = record(&schema(), &json!({"device": "d1", "at": 5, "celsius": "warm"}), None, &message).unwrap_err();
        assert_eq!(fault.class, "RecordInvalid");
        assert!(fault.message.starts_with("field `celsius`, from /celsius: "), "{}", fault.message);
        assert_eq!(document(b"{\"a\":").unwrap_err().class, "JsonInvalid");
        assert_eq!(document(b"").unwrap_err().class, "JsonInvalid");
        let dense = format!("[{}[]]", "[],".repeat(200_000));
        let fault = document(dense.as_bytes()).unwrap_err();
        assert!(
            fault.class == "JsonInvalid" && fault.message.contains("MiB of memory"),
            "{}",
            fault.message
        );
    }
}

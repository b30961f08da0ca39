//! Messages that others have written: items, mapped to records as those of any source. Pure.

use serde_json::Value as Json;
use userpipeline_record::{Mapped, RecordSchema, check_weight};

use super::{Entry, Fault};
use crate::message::Message;

/// The item in a message that holds a JSON document.
pub fn document(payload: &[u8]) -> Result<Json, Fault> {
    check_weight(payload).map_err(|why| Fault::new("JsonInvalid", why))?;
    serde_json::from_slice(payload).map_err(|e| Fault::new("JsonInvalid", format!("the message's value is no JSON: {e}")))
}

/// The record that an item is, which was written as that text if it is JSON, with the version that it has by itself. The message's key
/// is its producer's own affair.
pub fn entry(schema: &RecordSchema, item: &Json, written: Option<&[u8]>, message: &Message) -> Result<Entry, Fault> {
    let said = schema.map(item, written).map_err(|reject| {
        let place = if reject.field.is_empty() {
            "the record".to_owned()
        } else {
            format!("field `{}`", reject.field)
        };
        Fault::new("RecordInvalid", format!("{place}, from {}: {}", reject.from, reject.reason))
    })?;
    let (record, deleted) = match said {
        Mapped::Upsert(record) => (record, false),
        Mapped::Delete(record) => (record, true),
    };
    let version = schema
        .version(&record)
        .ok_or_else(|| Fault::new("VersionInvalid", "the field that spec.record.orderBy names holds no version"))?;
    Ok(Entry {
        origin: message.origin(),
        key: record.key(schema),
        version,
        record,
        deleted,
    })
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
    fn an_item_has_key_and_version_by_itself() {
        let message = Message {
            partition: 2,
            offset: 9,
            key: Some(b"whatever".to_vec()),
            ..Message::default()
        };
        let found = entry(&schema(), &json!({"device": "d1", "at": 5, "celsius": 1.5}), None, &message).unwrap();
        assert_eq!(
            (found.origin, found.key.as_str(), found.version, found.deleted),
            ((2, 9), r#"["d1",5]"#, 5000, false)
        );
        let gone = entry(&schema(), &json!({"device": "d1", "at": 5, "gone": true}), None, &message).unwrap();
        assert!(gone.deleted);
    }

    #[test]
    fn what_is_no_record_says_why() {
        let message = Message::default();
        let fault = entry(&schema(), &json!({"device": "d1", "at": 5, "celsius": "warm"}), None, &message).unwrap_err();
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

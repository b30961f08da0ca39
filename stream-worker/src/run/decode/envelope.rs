//! Key, version and frame of a message that follows this product's conventions. Pure.

use userpipeline_record::message;

use crate::model::{Message, RecordFault};

/// A message before its datum is decoded.
#[derive(Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    pub key: &'a str,
    pub version: i64,
    /// The schema's id and the datum; none of a deleted record.
    pub content: Option<(u32, &'a [u8])>,
}

pub fn open(message: &Message, has_deletes: bool) -> Result<Envelope<'_>, RecordFault> {
    let content = match &message.payload {
        None if has_deletes => None,
        payload => {
            let payload = payload.as_deref().unwrap_or_default();
            Some(message::split(payload).map_err(|e| RecordFault::new("FrameInvalid", e.to_string()))?)
        }
    };
    let key = message
        .key
        .as_deref()
        .ok_or_else(|| RecordFault::new("KeyMissing", "the message has no key"))?;
    let key = std::str::from_utf8(key).map_err(|_| RecordFault::new("KeyInvalid", "the key is not UTF-8"))?;
    let version = message
        .header(message::VERSION_HEADER)
        .ok_or_else(|| RecordFault::new("VersionMissing", "the header `version` is missing"))?;
    let version = std::str::from_utf8(version)
        .ok()
        .and_then(|text| text.parse::<i64>().ok())
        .filter(|v| *v > 0);
    let version =
        version.ok_or_else(|| RecordFault::new("VersionInvalid", "the header `version` is not a positive number of microseconds"))?;
    Ok(Envelope { key, version, content })
}

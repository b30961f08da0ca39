//! Invalid messages, and the error class of each.

use std::collections::BTreeMap;

use userpipeline_record::message::VERSION_HEADER;

/// The largest schema id, which is never registered.
const NO_SCHEMA: [u8; 5] = [0, 0x7f, 0xff, 0xff, 0xff];
const SOME_SCHEMA: [u8; 5] = [0, 0, 0, 0, 1];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Garbage {
    pub key: String,
    /// Unique.
    pub payload: Vec<u8>,
    pub version: Option<i64>,
    /// The expected `dlq.error.class`.
    pub class: &'static str,
}

impl Garbage {
    /// A message without a frame, with an unknown schema, or without a version.
    pub fn of(nonce: u64) -> Self {
        let framed = |frame: [u8; 5]| [frame.as_slice(), &nonce.to_be_bytes()].concat();
        let (payload, version, class) = match nonce % 3 {
            0 => (format!("garbage {nonce}").into_bytes(), Some(1), "FrameInvalid"),
            1 => (framed(NO_SCHEMA), Some(1), "SchemaUnknown"),
            _ => (framed(SOME_SCHEMA), None, "VersionMissing"),
        };
        Self {
            key: format!("[\"x\",{nonce}]"),
            payload,
            version,
            class,
        }
    }

    pub fn headers(&self) -> BTreeMap<String, String> {
        let version = self.version.map(|version| (VERSION_HEADER.to_owned(), version.to_string()));
        version.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use userpipeline_record::message;

    use super::*;

    #[test]
    fn only_a_message_of_class_frame_invalid_has_no_frame() {
        for nonce in [0, 1, 2, u64::MAX] {
            let garbage = Garbage::of(nonce);
            assert_eq!(
                message::split(&garbage.payload).is_err(),
                garbage.class == "FrameInvalid",
                "{garbage:?}"
            );
            assert_eq!(garbage.headers().is_empty(), garbage.class == "VersionMissing", "{garbage:?}");
        }
    }
}

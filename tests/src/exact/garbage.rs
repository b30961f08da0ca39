//! Messages that are no records, and what must be said of each.

use std::collections::BTreeMap;

use userpipeline_record::wire::VERSION_HEADER;

/// Schema ids are positive numbers of 31 bits: nobody has registered so many.
const NO_SCHEMA: [u8; 5] = [0, 0x7f, 0xff, 0xff, 0xff];
const SOME_SCHEMA: [u8; 5] = [0, 0, 0, 0, 1];

/// A message that is no record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Garbage {
    /// Its key.
    pub key: String,
    /// What it holds; nothing else does.
    pub payload: Vec<u8>,
    /// Its version.
    pub version: Option<i64>,
    /// The word for what is wrong with it.
    pub class: &'static str,
}

impl Garbage {
    /// No frame, no such schema, or no version.
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

    /// Its headers.
    pub fn headers(&self) -> BTreeMap<String, String> {
        let version = self.version.map(|version| (VERSION_HEADER.to_owned(), version.to_string()));
        version.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use userpipeline_record::wire;

    use super::*;

    #[test]
    fn only_what_is_said_to_have_no_frame_has_none() {
        for nonce in [0, 1, 2, u64::MAX] {
            let garbage = Garbage::of(nonce);
            assert_eq!(
                wire::split(&garbage.payload).is_err(),
                garbage.class == "FrameInvalid",
                "{garbage:?}"
            );
            assert_eq!(garbage.headers().is_empty(), garbage.class == "VersionMissing", "{garbage:?}");
        }
    }
}

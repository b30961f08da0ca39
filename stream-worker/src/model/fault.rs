//! Why a message becomes a dead letter.

use std::collections::BTreeMap;

use super::write::Write;

/// A fault of a message or its record, as opposed to one of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordFault {
    /// A CamelCase word.
    pub class: &'static str,
    /// A sentence.
    pub message: String,
    /// Whether the message may quote the record: then only the dead letter itself has it.
    pub quotes: bool,
    /// The record's key and version, where the message could be decoded.
    pub record: Option<(String, i64)>,
}

impl RecordFault {
    /// A fault whose message has none of the record's content.
    pub fn new(class: &'static str, message: impl Into<String>) -> Self {
        Self {
            class,
            message: message.into(),
            quotes: false,
            record: None,
        }
    }

    /// A fault in the words of a library or a store, which may quote the record.
    pub fn quoting(class: &'static str, message: impl Into<String>) -> Self {
        Self {
            quotes: true,
            ..Self::new(class, message)
        }
    }

    /// Adds the key and version of the write that was refused.
    #[must_use]
    pub fn of(self, write: &Write) -> Self {
        Self {
            record: Some((write.key.clone(), write.order_version)),
            ..self
        }
    }

    /// The fault without the record's content.
    pub fn redacted(&self) -> String {
        if self.quotes {
            format!("{}, for a reason that quotes it", self.class)
        } else {
            format!("{}: {}", self.class, self.message)
        }
    }
}

/// The messages of a batch that become dead letters, by partition and offset.
pub type Faults = BTreeMap<(i32, i64), RecordFault>;

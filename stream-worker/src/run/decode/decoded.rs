//! The result of decoding a message, which a transform can change.

use crate::model::{RecordFault, VersionedRecord};

#[derive(Clone, Debug, PartialEq)]
pub enum Decoded {
    Upsert(VersionedRecord),
    /// The record does not pass `spec.record.where`: an earlier version is deleted.
    Filtered(VersionedRecord),
    Delete(VersionedRecord),
    /// The record does not pass `spec.record.where`, and has no other versions.
    Skipped,
    /// Nothing is stored; the partition advances past the message.
    Drop,
    /// The message becomes a dead letter.
    Fault(RecordFault),
}

impl Decoded {
    /// With the value of `orderBy`.
    #[must_use]
    pub fn with_order(mut self, value: Option<i64>) -> Self {
        if let Self::Upsert(record) | Self::Filtered(record) | Self::Delete(record) = &mut self {
            record.order = value;
        }
        self
    }
}

//! The result of decoding a message, which a transform can change.

use crate::model::{RecordFault, VersionedRecord};

#[derive(Clone, Debug, PartialEq)]
pub enum Decoded {
    Upsert(VersionedRecord),
    Delete(VersionedRecord),
    /// Nothing is stored; the partition advances past the message.
    Drop,
    /// The message becomes a dead letter.
    Fault(RecordFault),
}

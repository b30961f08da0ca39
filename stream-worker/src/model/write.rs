//! What the sinks write.

use userpipeline_record::{Rank, Record};

/// A record with its key and version.
#[derive(Clone, Debug, PartialEq)]
pub struct VersionedRecord {
    /// Partition and offset of its message.
    pub origin: (i32, i64),
    pub key: String,
    /// In microseconds.
    pub version: i64,
    /// The value of `orderBy` at the precision served, of a message of an external producer.
    pub order: Option<i64>,
    /// Its values; of a deleted record, those of its key.
    pub record: Record,
}

/// An upsert or a delete of a record.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    /// Partition and offset of its message.
    pub origin: (i32, i64),
    pub key: String,
    /// In microseconds. Of a message of an external producer, a sink may decide it.
    pub version: i64,
    /// The value of `orderBy` at the precision served, of a message of an external producer.
    pub order: Option<i64>,
    /// The version that follows from `orderBy` alone.
    pub order_version: i64,
    /// Its values; of a delete, those of its key.
    pub record: Record,
    pub deleted: bool,
    /// It is deleted because its record does not pass `spec.record.where`.
    pub filtered: bool,
    /// The sink that decides versions has it already.
    pub is_stored: bool,
}

/// What the sink that decides versions has of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    pub version: i64,
    /// Value of `orderBy`, partition and offset. None in a row of an earlier version.
    pub message: Option<(i64, (i32, i64))>,
    /// Not if its record does not pass `spec.record.where`.
    pub deleted: bool,
}

impl Write {
    pub fn upsert(record: VersionedRecord) -> Self {
        Self::new(record, false)
    }

    pub fn delete(record: VersionedRecord) -> Self {
        Self::new(record, true)
    }

    /// A record that does not pass `spec.record.where`.
    pub fn filtered(record: VersionedRecord) -> Self {
        Self {
            filtered: true,
            ..Self::new(record, true)
        }
    }

    /// Whether its message is a deletion. A record that does not pass ranks as an upsert, so that it returns with a later message that
    /// has the same value of `orderBy`.
    pub const fn is_deletion(&self) -> bool {
        self.deleted && !self.filtered
    }

    /// The rank among the messages of an external producer.
    pub fn rank(&self) -> Option<Rank<(i32, i64)>> {
        let (deleted, arrival) = (self.is_deletion(), self.origin);
        self.order.map(|order| Rank { order, deleted, arrival })
    }

    fn new(record: VersionedRecord, deleted: bool) -> Self {
        let VersionedRecord {
            origin,
            key,
            version,
            order,
            record,
        } = record;
        Self {
            origin,
            key,
            version,
            order,
            order_version: version,
            record,
            deleted,
            filtered: false,
            is_stored: false,
        }
    }
}

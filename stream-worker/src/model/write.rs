//! What the sinks write.

use userpipeline_record::Record;

/// A record with its key and version.
#[derive(Clone, Debug, PartialEq)]
pub struct VersionedRecord {
    /// Partition and offset of its message.
    pub origin: (i32, i64),
    pub key: String,
    /// In microseconds.
    pub version: i64,
    /// Its values; of a deleted record, those of its key.
    pub record: Record,
}

/// An upsert or a delete of a record.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    /// Partition and offset of its message.
    pub origin: (i32, i64),
    pub key: String,
    /// In microseconds.
    pub version: i64,
    /// Its values; of a delete, those of its key.
    pub record: Record,
    pub deleted: bool,
}

impl Write {
    pub fn upsert(record: VersionedRecord) -> Self {
        Self::new(record, false)
    }

    pub fn delete(record: VersionedRecord) -> Self {
        Self::new(record, true)
    }

    fn new(record: VersionedRecord, deleted: bool) -> Self {
        let VersionedRecord {
            origin,
            key,
            version,
            record,
        } = record;
        Self {
            origin,
            key,
            version,
            record,
            deleted,
        }
    }
}

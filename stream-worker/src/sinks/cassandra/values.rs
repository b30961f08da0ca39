//! A write as the values of a statement.

use scylla::value::{CqlDate, CqlTimestamp, CqlValue};
use userpipeline_record::{RecordSchema, Value};

use crate::model::Write;

/// Cassandra counts days in an unsigned number whose middle is 1970-01-01.
const EPOCH: u32 = 1 << 31;

/// The values of the insert: the fields, null included, and the version as the write time.
pub fn upsert(write: &Write) -> Vec<Option<CqlValue>> {
    let version = Some(CqlValue::BigInt(write.version));
    write.record.0.iter().map(cql).chain([version]).collect()
}

/// The values of the delete: the version as the write time, and the key.
pub fn delete(schema: &RecordSchema, write: &Write) -> Vec<Option<CqlValue>> {
    let key = schema.key_positions().map(|position| cql(&write.record.0[position]));
    std::iter::once(Some(CqlValue::BigInt(write.version))).chain(key).collect()
}

fn cql(value: &Value) -> Option<CqlValue> {
    Some(match value {
        Value::Null => return None,
        Value::String(text) | Value::Json(text) => CqlValue::Text(text.clone()),
        Value::Boolean(truth) => CqlValue::Boolean(*truth),
        Value::Long(number) => CqlValue::BigInt(*number),
        Value::Double(number) => CqlValue::Double(*number),
        Value::Date(days) => CqlValue::Date(CqlDate(days.cast_unsigned().wrapping_add(EPOCH))),
        Value::Timestamp(millis) => CqlValue::Timestamp(CqlTimestamp(*millis)),
        Value::Uuid(uuid) => CqlValue::Uuid(*uuid),
        Value::Bytes(bytes) => CqlValue::Blob(bytes.clone()),
    })
}

#[cfg(test)]
mod tests {
    use userpipeline_record::Record;

    use super::*;
    use crate::model::VersionedRecord;

    #[test]
    fn null_is_bound_and_the_version_comes_last() {
        let write = Write::upsert(VersionedRecord {
            origin: (0, 0),
            key: "k".into(),
            version: 7,
            order: None,
            record: Record(vec![Value::String("a".into()), Value::Null, Value::Timestamp(5), Value::Date(-1)]),
        });
        assert_eq!(
            upsert(&write),
            [
                Some(CqlValue::Text("a".into())),
                None,
                Some(CqlValue::Timestamp(CqlTimestamp(5))),
                Some(CqlValue::Date(CqlDate((1 << 31) - 1))),
                Some(CqlValue::BigInt(7))
            ]
        );
    }
}

//! A write as the values of a statement, written straight into the request.

use scylla::{
    cluster::metadata::ColumnType,
    serialize::{
        SerializationError,
        row::{RowSerializationContext, SerializeRow},
        value::SerializeValue,
        writers::{CellWriter, RowWriter},
    },
    value::{CqlDate, CqlTimestamp},
};
use userpipeline_record::{RecordSchema, Value};

use crate::model::Write;

/// Cassandra counts days in an unsigned number whose middle is 1970-01-01.
const EPOCH: u32 = 1 << 31;

/// The values of the insert: the fields, null included, and the version as the write time.
pub struct Upsert<'a>(pub &'a Write);

/// The values of the delete: the version as the write time, and the key.
pub struct Delete<'a> {
    pub schema: &'a RecordSchema,
    pub write: &'a Write,
}

impl SerializeRow for Upsert<'_> {
    fn serialize(&self, context: &RowSerializationContext<'_>, writer: &mut RowWriter<'_>) -> Result<(), SerializationError> {
        let Self(write) = self;
        let version = Value::Long(write.version);
        serialize(write.record.0.iter().chain([&version]), context, writer)
    }

    fn is_empty(&self) -> bool {
        false
    }
}

impl SerializeRow for Delete<'_> {
    fn serialize(&self, context: &RowSerializationContext<'_>, writer: &mut RowWriter<'_>) -> Result<(), SerializationError> {
        let version = Value::Long(self.write.version);
        let key = self.schema.key_positions().map(|position| &self.write.record.0[position]);
        serialize([&version].into_iter().chain(key), context, writer)
    }

    fn is_empty(&self) -> bool {
        false
    }
}

fn serialize<'a>(
    values: impl Iterator<Item = &'a Value>,
    context: &RowSerializationContext<'_>,
    writer: &mut RowWriter<'_>,
) -> Result<(), SerializationError> {
    for (value, column) in values.zip(context.columns()) {
        cell(value, column.typ(), writer.make_cell_writer()).map_err(|source| {
            SerializationError::new(ColumnFailed {
                column: column.name().to_owned(),
                source,
            })
        })?;
    }
    Ok(())
}

/// It fails where the column has another type.
fn cell(value: &Value, column: &ColumnType<'_>, cell: CellWriter<'_>) -> Result<(), SerializationError> {
    match value {
        Value::Null => {
            cell.set_null();
            Ok(())
        }
        Value::String(text) | Value::Json(text) => text.as_str().serialize(column, cell).map(drop),
        Value::Boolean(truth) => truth.serialize(column, cell).map(drop),
        Value::Long(number) => number.serialize(column, cell).map(drop),
        Value::Double(number) => number.serialize(column, cell).map(drop),
        Value::Date(days) => CqlDate(days.cast_unsigned().wrapping_add(EPOCH)).serialize(column, cell).map(drop),
        Value::Timestamp(millis) => CqlTimestamp(*millis).serialize(column, cell).map(drop),
        Value::Uuid(uuid) => uuid.serialize(column, cell).map(drop),
        Value::Bytes(bytes) => bytes.as_slice().serialize(column, cell).map(drop),
    }
}

#[derive(Debug)]
struct ColumnFailed {
    column: String,
    source: SerializationError,
}

impl std::fmt::Display for ColumnFailed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "column `{}`: {}", self.column, self.source)
    }
}

impl std::error::Error for ColumnFailed {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

#[cfg(test)]
mod tests {
    use scylla::{
        cluster::metadata::NativeType,
        frame::response::result::{ColumnSpec, TableSpec},
    };
    use userpipeline_record::Record;

    use super::*;
    use crate::model::VersionedRecord;

    fn write() -> Write {
        Write::upsert(VersionedRecord {
            origin: (0, 0),
            key: "k".into(),
            version: 7,
            order: None,
            record: Record(vec![Value::String("a".into()), Value::Null, Value::Timestamp(5), Value::Date(-1)]),
        })
    }

    fn serialized(types: &[NativeType]) -> Result<Vec<u8>, SerializationError> {
        let column = |kind: &NativeType| ColumnSpec::borrowed("c", ColumnType::Native(kind.clone()), TableSpec::borrowed("k", "t"));
        let columns: Vec<_> = types.iter().map(column).collect();
        let mut bytes = Vec::new();
        Upsert(&write()).serialize(&RowSerializationContext::from_specs(&columns), &mut RowWriter::new(&mut bytes))?;
        Ok(bytes)
    }

    #[test]
    fn null_is_bound_and_the_version_comes_last() {
        use NativeType::{BigInt, Date, Text, Timestamp};
        let mut expected = vec![0, 0, 0, 1, b'a'];
        expected.extend([0xff; 4]);
        expected.extend([0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 5]);
        expected.extend([0, 0, 0, 4, 0x7f, 0xff, 0xff, 0xff]);
        expected.extend([0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 7]);
        assert_eq!(serialized(&[Text, Text, Timestamp, Date, BigInt]).unwrap(), expected);
    }

    #[test]
    fn a_column_of_another_type_is_an_error_that_names_it() {
        use NativeType::{BigInt, Date, Int, Text};
        let error = serialized(&[Text, Text, Int, Date, BigInt]).unwrap_err().to_string();
        assert!(error.contains("column `c`: "), "{error}");
    }
}

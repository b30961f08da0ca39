//! A record's value to and from PostgreSQL's binary format, by the type of the column.

use std::error::Error;

use bytes::{BufMut, BytesMut};
use serde_json::value::RawValue;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};
use userpipeline_record::{FieldType, Value};
use uuid::Uuid;

/// PostgreSQL counts microseconds from 2000-01-01.
const EPOCH_MILLIS: i64 = 946_684_800_000;

type Failed = Box<dyn Error + Sync + Send>;

/// A value on its way to PostgreSQL.
#[derive(Debug)]
pub(crate) struct Cell<'a>(pub(crate) &'a Value);

impl ToSql for Cell<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Failed> {
        match self.0 {
            Value::Null => Ok(IsNull::Yes),
            Value::String(text) => text.to_sql(ty, out),
            Value::Uuid(uuid) => uuid.to_sql(ty, out),
            Value::Timestamp(millis) => {
                let micros = millis
                    .checked_sub(EPOCH_MILLIS)
                    .and_then(|m| m.checked_mul(1000))
                    .ok_or("a time out of range")?;
                out.put_i64(micros);
                Ok(IsNull::No)
            }
        }
    }

    accepts!(TEXT, UUID, TIMESTAMPTZ);
    to_sql_checked!();
}

/// A value from PostgreSQL.
pub(crate) struct Read(pub(crate) Value);

impl<'a> FromSql<'a> for Read {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Failed> {
        let value = match *ty {
            Type::UUID => Value::Uuid(Uuid::from_sql(ty, raw)?),
            Type::TIMESTAMPTZ => match i64::from_be_bytes(raw.try_into()?) {
                i64::MIN | i64::MAX => return Err("an infinite time".into()),
                micros => Value::Timestamp(micros.div_euclid(1000) + EPOCH_MILLIS),
            },
            _ => Value::String(String::from_sql(ty, raw)?),
        };
        Ok(Self(value))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Failed> {
        Ok(Self(Value::Null))
    }

    accepts!(TEXT, UUID, TIMESTAMPTZ);
}

/// JSON as it was served, byte for byte.
#[derive(Debug)]
pub(crate) struct RawJson<'a>(pub(crate) &'a RawValue);

impl ToSql for RawJson<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Failed> {
        out.put_slice(self.0.get().as_bytes());
        Ok(IsNull::No)
    }

    accepts!(JSON);
    to_sql_checked!();
}

/// The column's type of a field.
pub(crate) const fn column_type(field: FieldType) -> Type {
    match field {
        FieldType::String => Type::TEXT,
        FieldType::Uuid => Type::UUID,
        FieldType::Timestamp => Type::TIMESTAMPTZ,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_comes_back_as_it_went() {
        for (value, ty) in [
            (Value::String("Zoë".into()), Type::TEXT),
            (Value::Uuid(Uuid::from_u128(7)), Type::UUID),
            (Value::Timestamp(0), Type::TIMESTAMPTZ),
            (Value::Timestamp(-62_135_596_800_000), Type::TIMESTAMPTZ),
            (Value::Timestamp(253_402_300_799_999), Type::TIMESTAMPTZ),
        ] {
            let mut out = BytesMut::new();
            Cell(&value).to_sql(&ty, &mut out).unwrap();
            assert_eq!(Read::from_sql(&ty, &out).unwrap().0, value);
        }
    }

    #[test]
    fn a_time_is_written_as_postgresql_reads_it() {
        let (mut ours, mut theirs) = (BytesMut::new(), BytesMut::new());
        Cell(&Value::Timestamp(1_693_735_200_123))
            .to_sql(&Type::TIMESTAMPTZ, &mut ours)
            .unwrap();
        jiff::Timestamp::from_millisecond(1_693_735_200_123)
            .unwrap()
            .to_sql(&Type::TIMESTAMPTZ, &mut theirs)
            .unwrap();
        assert_eq!(ours, theirs);
    }
}

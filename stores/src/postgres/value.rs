//! A record's value in PostgreSQL's binary format, by the type of the column.

use std::error::Error;

use bytes::{BufMut, BytesMut};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};
use userpipeline_record::{FieldType, Value};
use uuid::Uuid;

/// 2000-01-01, from which PostgreSQL counts microseconds, in milliseconds since 1970.
const EPOCH_MILLIS: i64 = 946_684_800_000;
/// 2000-01-01, from which PostgreSQL counts days, in days since 1970.
const EPOCH_DAYS: i32 = 10_957;
/// The first byte of `jsonb` in binary form.
const JSONB_VERSION: u8 = 1;

type Failed = Box<dyn Error + Sync + Send>;

/// A value to bind to a statement.
#[derive(Debug)]
pub struct PgParam<'a>(pub &'a Value);

impl ToSql for PgParam<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Failed> {
        match self.0 {
            Value::Null => return Ok(IsNull::Yes),
            Value::String(text) => return text.to_sql(ty, out),
            Value::Uuid(uuid) => return uuid.to_sql(ty, out),
            Value::Boolean(truth) => out.put_u8(u8::from(*truth)),
            Value::Long(number) => out.put_i64(*number),
            Value::Double(number) => out.put_f64(*number),
            Value::Date(days) => out.put_i32(days.checked_sub(EPOCH_DAYS).ok_or("a day out of range")?),
            Value::Timestamp(millis) => {
                let micros = millis
                    .checked_sub(EPOCH_MILLIS)
                    .and_then(|m| m.checked_mul(1000))
                    .ok_or("a time out of range")?;
                out.put_i64(micros);
            }
            Value::Bytes(bytes) => out.put_slice(bytes),
            Value::Json(text) => {
                if *ty == Type::JSONB {
                    out.put_u8(JSONB_VERSION);
                }
                out.put_slice(text.as_bytes());
            }
        }
        Ok(IsNull::No)
    }

    accepts!(TEXT, BOOL, INT8, FLOAT8, DATE, TIMESTAMPTZ, UUID, BYTEA, JSON, JSONB);
    to_sql_checked!();
}

/// A value of a row.
pub struct PgValue(pub Value);

impl<'a> FromSql<'a> for PgValue {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Failed> {
        let value = match *ty {
            Type::BOOL => Value::Boolean(bool::from_sql(ty, raw)?),
            Type::INT8 => Value::Long(i64::from_sql(ty, raw)?),
            Type::FLOAT8 => Value::Double(f64::from_sql(ty, raw)?),
            Type::DATE => match i32::from_be_bytes(raw.try_into()?) {
                i32::MIN | i32::MAX => return Err("an infinite day".into()),
                days => Value::Date(days + EPOCH_DAYS),
            },
            Type::UUID => Value::Uuid(Uuid::from_sql(ty, raw)?),
            Type::TIMESTAMPTZ => match i64::from_be_bytes(raw.try_into()?) {
                i64::MIN | i64::MAX => return Err("an infinite time".into()),
                micros => Value::Timestamp(micros.div_euclid(1000) + EPOCH_MILLIS),
            },
            Type::BYTEA => Value::Bytes(raw.to_vec()),
            // Byte for byte. `jsonb` is never read: it normalises numbers.
            Type::JSON => Value::Json(std::str::from_utf8(raw)?.to_owned()),
            _ => Value::String(String::from_sql(ty, raw)?),
        };
        Ok(Self(value))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Failed> {
        Ok(Self(Value::Null))
    }

    accepts!(TEXT, BOOL, INT8, FLOAT8, DATE, TIMESTAMPTZ, UUID, BYTEA, JSON);
}

/// JSON as it was served, byte for byte, in UTF-8.
#[derive(Debug)]
pub struct RawJson<'a>(pub &'a [u8]);

impl ToSql for RawJson<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Failed> {
        out.put_slice(self.0);
        Ok(IsNull::No)
    }

    accepts!(JSON);
    to_sql_checked!();
}

/// The type of a field's column in the landing table.
pub const fn landing_type(field: FieldType) -> Type {
    match field {
        FieldType::String => Type::TEXT,
        FieldType::Boolean => Type::BOOL,
        FieldType::Int | FieldType::Long => Type::INT8,
        FieldType::Double => Type::FLOAT8,
        FieldType::Date => Type::DATE,
        FieldType::Timestamp => Type::TIMESTAMPTZ,
        FieldType::Uuid => Type::UUID,
        FieldType::Bytes => Type::BYTEA,
        FieldType::Json => Type::JSON,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_comes_back_as_it_went() {
        for (value, ty) in [
            (Value::String("Zoë".into()), Type::TEXT),
            (Value::Boolean(true), Type::BOOL),
            (Value::Long(i64::MIN), Type::INT8),
            (Value::Double(-1e-300), Type::FLOAT8),
            (Value::Date(-719_162), Type::DATE),
            (Value::Date(2_932_896), Type::DATE),
            (Value::Uuid(Uuid::from_u128(7)), Type::UUID),
            (Value::Bytes(vec![0, 255]), Type::BYTEA),
            (Value::Json(r#"{"a":[1,1e300,null]}"#.into()), Type::JSON),
            (Value::Timestamp(0), Type::TIMESTAMPTZ),
            (Value::Timestamp(-62_135_596_800_000), Type::TIMESTAMPTZ),
            (Value::Timestamp(253_402_300_799_999), Type::TIMESTAMPTZ),
        ] {
            let mut out = BytesMut::new();
            PgParam(&value).to_sql(&ty, &mut out).unwrap();
            assert_eq!(PgValue::from_sql(&ty, &out).unwrap().0, value);
        }
    }

    #[test]
    fn a_day_is_written_as_postgresql_reads_it() {
        let (mut ours, mut theirs) = (BytesMut::new(), BytesMut::new());
        PgParam(&Value::Date(19_603)).to_sql(&Type::DATE, &mut ours).unwrap();
        jiff::civil::date(2023, 9, 3).to_sql(&Type::DATE, &mut theirs).unwrap();
        assert_eq!(ours, theirs);
    }

    #[test]
    fn a_time_is_written_as_postgresql_reads_it() {
        let (mut ours, mut theirs) = (BytesMut::new(), BytesMut::new());
        PgParam(&Value::Timestamp(1_693_735_200_123))
            .to_sql(&Type::TIMESTAMPTZ, &mut ours)
            .unwrap();
        jiff::Timestamp::from_millisecond(1_693_735_200_123)
            .unwrap()
            .to_sql(&Type::TIMESTAMPTZ, &mut theirs)
            .unwrap();
        assert_eq!(ours, theirs);
    }
}

//! A value of an item that is neither an array nor an object, before it is a value of a record.

use base64::Engine as _;
use serde_json::{Number, Value as Json};
use uuid::Uuid;

use crate::{time::date, value::BASE64};

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum Scalar<'a> {
    /// Absent or null.
    #[default]
    Null,
    Boolean(bool),
    Number(i64),
    Single(f32),
    Double(f64),
    /// Days since 1970-01-01.
    Date(i32),
    Text(&'a str),
    Bytes(&'a [u8]),
    Uuid(Uuid),
}

impl Scalar<'_> {
    /// The value in an item:
    /// - dates as text, bytes in base64;
    /// - NaN and infinities as text, as in Avro's JSON encoding;
    /// - a day that is not in the calendar as its number.
    pub(crate) fn json(self) -> Json {
        match self {
            Self::Null => Json::Null,
            Self::Boolean(truth) => truth.into(),
            Self::Number(number) => number.into(),
            Self::Single(number) => fraction(decimal(number)),
            Self::Double(number) => fraction(number),
            Self::Date(days) => date(days).map_or_else(|| days.into(), |date| date.to_string().into()),
            Self::Text(text) => text.into(),
            Self::Bytes(bytes) => BASE64.encode(bytes).into(),
            Self::Uuid(uuid) => uuid.to_string().into(),
        }
    }
}

fn fraction(number: f64) -> Json {
    match Number::from_f64(number) {
        Some(number) => number.into(),
        None if number.is_nan() => "NaN".into(),
        None if number > 0.0 => "Infinity".into(),
        None => "-Infinity".into(),
    }
}

/// The shortest number that is equal in single precision: 0.1 stays 0.1.
fn decimal(number: f32) -> f64 {
    number.to_string().parse().unwrap_or_else(|_| f64::from(number))
}

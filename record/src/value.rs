//! Values of a record's fields.

use jiff::civil::Date;
use serde_json::Value as Json;
use userpipeline_api::FieldType;
use uuid::Uuid;

use crate::{Field, RecordSchema};

/// The value of one field.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// None; only in optional fields.
    Null,
    /// Text, without NUL.
    String(String),
    /// True or false.
    Boolean(bool),
    /// A whole number.
    Long(i64),
    /// A finite number.
    Double(f64),
    /// A day, in days since 1970-01-01.
    Date(i32),
    /// Milliseconds since the epoch.
    Timestamp(i64),
    /// A UUID.
    Uuid(Uuid),
    /// Bytes.
    Bytes(Vec<u8>),
    /// JSON as text: what `serde_json` writes.
    Json(String),
}

/// The first day of the epoch.
pub(crate) const EPOCH: Date = jiff::civil::date(1970, 1, 1);

/// A day as days since 1970-01-01.
pub(crate) fn days(date: Date) -> i32 {
    // Of the years that there are in jiff, a few millions.
    (date - EPOCH).get_days()
}

/// The day that is so many days after 1970-01-01, if there is one.
pub fn date(days: i32) -> Option<Date> {
    EPOCH.checked_add(jiff::Span::new().try_days(days).ok()?).ok()
}

/// A moment as text, also of the last day of the year 9999, which is beyond jiff's timestamps.
pub(crate) fn moment(millis: i64) -> String {
    let since = jiff::Span::new().milliseconds(millis);
    EPOCH
        .to_datetime(jiff::civil::Time::midnight())
        .checked_add(since)
        .map_or_else(|_| String::new(), |time| format!("{time}Z"))
}

/// The milliseconds of a text such as `2023-09-03T10:00:00+02:00`.
pub(crate) fn millis(text: &str) -> Result<i64, String> {
    match text.parse::<jiff::Timestamp>() {
        Ok(time) => Ok(time.as_millisecond()),
        // Beyond jiff's timestamps there is one day that people like to say for "never".
        Err(e) => beyond(text).ok_or_else(|| e.to_string()),
    }
}

fn beyond(text: &str) -> Option<i64> {
    let pieces = jiff::fmt::temporal::DateTimeParser::new().parse_pieces(text).ok()?;
    let offset = match pieces.offset()? {
        jiff::fmt::temporal::PiecesOffset::Numeric(offset) => i64::from(offset.offset().seconds()),
        _ => 0,
    };
    let time = pieces.time()?;
    let seconds = (i64::from(time.hour()) * 60 + i64::from(time.minute())) * 60 + i64::from(time.second());
    Some((i64::from(days(pieces.date())) * 86_400 + seconds - offset) * 1000 + i64::from(time.millisecond()))
}

impl Value {
    /// The value as it stands in a record's key, among others.
    fn key_part(&self) -> Json {
        match self {
            Self::Null => Json::Null,
            Self::String(text) | Self::Json(text) => text.clone().into(),
            Self::Boolean(truth) => (*truth).into(),
            Self::Long(number) | Self::Timestamp(number) => (*number).into(),
            Self::Double(number) => (*number).into(),
            Self::Date(days) => date(*days).map_or_else(String::new, |date| date.to_string()).into(),
            Self::Uuid(uuid) => uuid.to_string().into(),
            Self::Bytes(bytes) => crate::map::base64(bytes).into(),
        }
    }

    /// The value as an item could say it: times as text, bytes in base64.
    pub fn to_json(&self) -> Json {
        match self {
            Self::Json(text) => serde_json::from_str(text).unwrap_or_else(|_| text.clone().into()),
            Self::Timestamp(millis) => moment(*millis).into(),
            other => other.key_part(),
        }
    }

    /// About how many bytes the value takes.
    fn size(&self) -> usize {
        let more = match self {
            Self::String(text) | Self::Json(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            _ => 0,
        };
        size_of::<Self>() + more
    }
}

/// The values of a record's fields, in the schema's order.
#[derive(Clone, Debug, PartialEq)]
pub struct Record(pub Vec<Value>);

impl Record {
    /// The record's key as text: the value of its one key field, or a JSON array of the values of several.
    pub fn key(&self, schema: &RecordSchema) -> String {
        let mut parts: Vec<Json> = schema.key_positions().map(|i| self.0[i].key_part()).collect();
        if parts.len() > 1 {
            return Json::from(parts).to_string();
        }
        match parts.pop() {
            Some(Json::String(text)) => text,
            Some(other) => other.to_string(),
            None => String::new(),
        }
    }

    /// About how many bytes the record takes in memory.
    pub fn size(&self) -> usize {
        self.0.iter().map(Value::size).sum()
    }
}

impl RecordSchema {
    /// The record of which only the key is known, all other fields being null: what [`Record::key`] wrote, read again.
    pub fn record_of_key(&self, key: &str) -> Result<Record, String> {
        let parts: Vec<Json> = if self.key.len() > 1 {
            serde_json::from_str(key).map_err(|_| format!("the key is not a JSON array of {} values", self.key.len()))?
        } else {
            vec![key.into()]
        };
        if parts.len() != self.key.len() {
            return Err(format!("the key has {} values, not {}", parts.len(), self.key.len()));
        }
        let mut record = Record(vec![Value::Null; self.fields.len()]);
        for (position, part) in self.key_positions().zip(parts) {
            let field = &self.fields[position];
            record.0[position] =
                key_value(field, &part, self.key.len() == 1).map_err(|why| format!("the key's `{}`: {why}", field.name))?;
        }
        Ok(record)
    }
}

/// A value of the key; the one value of a simple key is text, whatever its type.
fn key_value(field: &Field, part: &Json, simple: bool) -> Result<Value, String> {
    let numbers = matches!(
        field.field_type,
        FieldType::Int | FieldType::Long | FieldType::Timestamp | FieldType::Boolean
    );
    let read = part
        .as_str()
        .filter(|_| simple && numbers)
        .and_then(|text| serde_json::from_str(text).ok());
    crate::map::convert(field.field_type, read.as_ref().unwrap_or(part))
}

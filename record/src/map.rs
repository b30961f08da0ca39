//! From a source's JSON item to a record.

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use jiff::civil::Date;
use serde_json::{Number, Value as Json};
use userpipeline_api::FieldType;
use uuid::Uuid;

use crate::{
    Field, Origin, Record, RecordSchema, Value,
    pointer::raw_at,
    value::{days, millis},
};

/// Years that every store and Avro reader can hold: 0001 to 9999.
const FIRST_MILLIS: i64 = -62_135_596_800_000;
const LAST_MILLIS: i64 = 253_402_300_799_999;
const FIRST_DAY: i32 = -719_162;
const LAST_DAY: i32 = 2_932_896;
/// The longest key, in bytes: an index of PostgreSQL takes 2,704.
const MAX_KEY: usize = 2048;
/// Whole numbers up to here are the same as floating point.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Classes of rejects.
const MISSING: &str = "Missing";
const VALUE_INVALID: &str = "ValueInvalid";

/// Base64, padded or not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// An item of a source.
struct Item<'a> {
    json: &'a Json,
    /// How it was written, if that was JSON.
    written: Option<&'a [u8]>,
}

impl Item<'_> {
    /// A number that the item has at a pointer, as it was written: `1.10` is not `1.1`, and one of more than 64 bits keeps its digits.
    fn as_written(&self, number: &Number, pointer: &str) -> String {
        let written = self.written.filter(|_| number.is_f64()).and_then(|text| raw_at(text, pointer));
        written.map_or_else(|| number.to_string(), |raw| raw.get().to_owned())
    }
}

/// Why an item is no record: kept with the item's raw text, never dropped. Nothing of it quotes the item: it is told in logs and in the
/// status as well.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("field `{field}` (from {from}): {reason}")]
pub struct Reject {
    /// The field.
    pub field: String,
    /// The pointer that was followed, or the expression.
    pub from: String,
    /// A CamelCase word for what is wrong: `Missing`, `ValueInvalid`, `ExpressionFailed`, `KeyInvalid`, `VersionInvalid`.
    pub class: &'static str,
    /// What is wrong, and what was expected.
    pub reason: String,
}

/// What an item says.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// That there is a record, or another version of it.
    Is(Record),
    /// That a record is no more: its key, and its version where one is declared; all else is null.
    IsNoMore(Record),
}

impl RecordSchema {
    /// Maps one item, which was written as that text, if it was JSON.
    pub fn map(&self, item: &Json, written: Option<&[u8]>) -> Result<Said, Reject> {
        let item = Item { json: item, written };
        let deleted = match &self.delete_when {
            None => false,
            Some(expression) => match expression.value(item.json) {
                Ok(Json::Bool(deleted)) => deleted,
                Ok(other) => return Err(self.undecided(format!("expected true or false, found {}", kind(&other)))),
                Err(why) => return Err(self.undecided(why)),
            },
        };
        let field = |field: &Field| {
            if deleted && !self.is_key(field) && self.order_by.as_ref() != Some(&field.name) {
                Ok(Value::Null)
            } else {
                map_field(field, &item)
            }
        };
        let record = self.fields.iter().map(field).collect::<Result<_, _>>().map(Record)?;
        self.check_key(&record)?;
        self.check_version(&record)?;
        Ok(if deleted { Said::IsNoMore(record) } else { Said::Is(record) })
    }

    /// The version that a record has by itself, where one is declared: microseconds of a time, or a number as it is.
    pub fn version(&self, record: &Record) -> Option<i64> {
        match record.0[self.position(self.order_by.as_deref()?)?] {
            Value::Timestamp(millis) => millis.checked_mul(1000),
            Value::Long(number) => Some(number),
            _ => None,
        }
    }

    fn undecided(&self, reason: String) -> Reject {
        Reject {
            field: "deleteWhen".to_owned(),
            from: self.delete_when.as_ref().map_or_else(String::new, |e| e.text().to_owned()),
            class: "ExpressionFailed",
            reason,
        }
    }

    fn check_key(&self, record: &Record) -> Result<(), Reject> {
        let reject = |field: &str, reason: String| Reject {
            field: field.to_owned(),
            from: "the key".to_owned(),
            class: "KeyInvalid",
            reason,
        };
        for position in self.key_positions() {
            let empty = match &record.0[position] {
                Value::String(text) => text.is_empty(),
                Value::Bytes(bytes) => bytes.is_empty(),
                _ => false,
            };
            if empty {
                let reason = "empty, but Cassandra cannot hold a key that is".to_owned();
                return Err(reject(&self.fields[position].name, reason));
            }
        }
        let length = record.key(self).len();
        if length > MAX_KEY {
            let reason = format!("the key has {length} bytes; at most {MAX_KEY} fit an index");
            return Err(reject(&self.key[0], reason));
        }
        Ok(())
    }

    fn check_version(&self, record: &Record) -> Result<(), Reject> {
        let Some(field) = &self.order_by else { return Ok(()) };
        match self.version(record) {
            Some(version) if version > 0 => Ok(()),
            _ => Err(Reject {
                field: field.clone(),
                from: "orderBy".to_owned(),
                class: "VersionInvalid",
                reason: "a version must be a number above 0, or a time after 1970".to_owned(),
            }),
        }
    }
}

fn map_field(field: &Field, item: &Item<'_>) -> Result<Value, Reject> {
    let reject = |from: &str, class, reason: String| Reject {
        field: field.name.clone(),
        from: from.to_owned(),
        class,
        reason,
    };
    let evaluated;
    let (from, found) = match &field.from {
        Origin::Pointer(pointer) => (pointer.as_str(), item.json.pointer(pointer)),
        Origin::Template(template) => return fill(field, template, item),
        Origin::Expression(expression) => {
            evaluated = expression
                .value(item.json)
                .map_err(|why| reject(expression.text(), "ExpressionFailed", why))?;
            (expression.text(), Some(&evaluated))
        }
    };
    match (found, &field.default) {
        (None | Some(Json::Null), Some(default)) => Ok(default.clone()),
        (None | Some(Json::Null), None) if field.optional => Ok(Value::Null),
        (None, None) => Err(reject(from, MISSING, "missing".to_owned())),
        (Some(Json::Null), None) => Err(reject(from, MISSING, "null, but the field is not optional".to_owned())),
        (Some(Json::Number(number)), _) if field.field_type == FieldType::String && matches!(field.from, Origin::Pointer(_)) => {
            Ok(Value::String(item.as_written(number, from)))
        }
        (Some(json), _) => convert(field.field_type, json).map_err(|why| reject(from, VALUE_INVALID, why)),
    }
}

/// Fills the pointers in a template. A part that is missing or null makes an optional field null, and another its default.
fn fill(field: &Field, template: &str, item: &Item<'_>) -> Result<Value, Reject> {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (pointer, after) = after.split_once('}').unwrap_or((after, ""));
        let reject = |class, reason: String| Reject {
            field: field.name.clone(),
            from: pointer.to_owned(),
            class,
            reason,
        };
        text.push_str(before);
        match item.json.pointer(pointer) {
            None | Some(Json::Null) if RecordSchema::may_lack(field) => return Ok(field.default.clone().unwrap_or(Value::Null)),
            None => return Err(reject(MISSING, "missing".to_owned())),
            Some(Json::Number(number)) => text.push_str(&item.as_written(number, pointer)),
            Some(json) => text.push_str(&plain_text(json).map_err(|why| reject(VALUE_INVALID, why))?),
        }
        rest = after;
    }
    text.push_str(rest);
    Ok(Value::String(text))
}

/// A value of a type; the error says what was expected and what was found.
pub(crate) fn convert(field_type: FieldType, json: &Json) -> Result<Value, String> {
    let text = |example: &str| {
        json.as_str()
            .ok_or_else(|| format!("expected {example} as text, found {}", kind(json)))
    };
    match field_type {
        FieldType::String => plain_text(json).map(Value::String),
        FieldType::Boolean => json
            .as_bool()
            .map(Value::Boolean)
            .ok_or_else(|| format!("expected true or false, found {}", kind(json))),
        FieldType::Int | FieldType::Long => whole(json).map(Value::Long),
        FieldType::Double => match json.as_f64() {
            Some(number) if number.is_finite() => Ok(Value::Double(number)),
            _ => Err(format!("expected a number, found {}", kind(json))),
        },
        FieldType::Date => {
            let date: Date = text("a day such as 2023-09-03")?
                .parse()
                .map_err(|_| "not a day such as 2023-09-03".to_owned())?;
            check_days(days(date)).map(Value::Date)
        }
        FieldType::Timestamp if json.is_number() => check_millis(whole(json)?).map(Value::Timestamp),
        FieldType::Timestamp => {
            let read = millis(text("a time such as 2023-09-03T10:00:00Z")?);
            check_millis(read.map_err(|_| "not a time such as 2023-09-03T10:00:00Z".to_owned())?).map(Value::Timestamp)
        }
        FieldType::Uuid => Uuid::try_parse(text("a UUID")?)
            .map(Value::Uuid)
            .map_err(|_| "not a UUID such as 2f1b7a52-6f0e-4c8f-9a51-0c8d1f6c8a11".to_owned()),
        FieldType::Bytes => BASE64
            .decode(text("base64")?)
            .map(Value::Bytes)
            .map_err(|_| "not base64".to_owned()),
        FieldType::Json => checked_json(json).map(Value::Json),
    }
}

#[allow(clippy::cast_possible_truncation)] // Checked.
fn whole(json: &Json) -> Result<i64, String> {
    match (json.as_i64(), json.as_f64()) {
        (Some(number), _) => Ok(number),
        (None, Some(number)) if number.fract() == 0.0 && number.abs() <= EXACT => Ok(number as i64),
        (None, Some(_)) => Err("expected a whole number of 64 bits, found another one".to_owned()),
        (None, None) => Err(format!("expected a whole number, found {}", kind(json))),
    }
}

/// JSON that every store can hold, as text.
pub(crate) fn checked_json(json: &Json) -> Result<String, String> {
    fn has_nul(json: &Json) -> bool {
        match json {
            Json::String(text) => text.contains('\0'),
            Json::Array(items) => items.iter().any(has_nul),
            Json::Object(map) => map.iter().any(|(key, value)| key.contains('\0') || has_nul(value)),
            _ => false,
        }
    }
    if has_nul(json) {
        return Err("contains a NUL character, which PostgreSQL's jsonb cannot hold".to_owned());
    }
    Ok(json.to_string())
}

/// Refuses a time that a store cannot hold.
pub(crate) fn check_millis(millis: i64) -> Result<i64, String> {
    if (FIRST_MILLIS..=LAST_MILLIS).contains(&millis) {
        Ok(millis)
    } else {
        Err("a time outside of the years 0001 to 9999, which is what the stores can hold".to_owned())
    }
}

/// Refuses a day that a store cannot hold.
pub(crate) fn check_days(days: i32) -> Result<i32, String> {
    if (FIRST_DAY..=LAST_DAY).contains(&days) {
        Ok(days)
    } else {
        Err("a day outside of the years 0001 to 9999, which is what the stores can hold".to_owned())
    }
}

/// Bytes as text.
pub(crate) fn base64(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// Text, or a number: a postal code is either, depending on the country.
fn plain_text(json: &Json) -> Result<String, String> {
    match json {
        Json::String(text) if text.contains('\0') => Err("contains a NUL character, which PostgreSQL text cannot hold".to_owned()),
        Json::String(text) => Ok(text.clone()),
        Json::Number(number) => Ok(number.to_string()),
        other => Err(format!("expected text or a number, found {}", kind(other))),
    }
}

pub(crate) const fn kind(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "a boolean",
        Json::Number(_) => "a number",
        Json::String(_) => "text",
        Json::Array(_) => "an array",
        Json::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests;

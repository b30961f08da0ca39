//! Converts JSON to the value of a field's type.

use base64::Engine as _;
use jiff::civil::Date;
use serde_json::Value as Json;
use userpipeline_api::FieldType;
use uuid::Uuid;

pub(crate) use crate::json_number::kind;
use crate::{Value, json_number::whole, time::days, time_form::TimeForm, value::BASE64};

/// The years that every store and Avro reader supports: 0001 to 9999.
pub(crate) const FIRST_DAY: i32 = -719_162;
pub(crate) const LAST_DAY: i32 = 2_932_896;

/// Times that are numbers are milliseconds. The error has the expected type and the kind of the value, never the value.
pub(crate) fn convert(field_type: FieldType, json: &Json) -> Result<Value, String> {
    convert_time(field_type, json, &TimeForm::default(), true)
}

/// The same with the form of times. `has_unit`: numbers are known to be milliseconds.
pub(crate) fn convert_time(field_type: FieldType, json: &Json, form: &TimeForm, has_unit: bool) -> Result<Value, String> {
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
        FieldType::Timestamp => form.read(json, has_unit).map(|time| Value::Timestamp(time.millis)),
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

/// JSON that every store supports, as text.
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
        return Err("contains a NUL character, which PostgreSQL's jsonb does not support".to_owned());
    }
    Ok(json.to_string())
}

/// Also of decoded Avro: a narrower range turns messages that are on a topic into dead letters.
pub(crate) fn check_days(days: i32) -> Result<i32, String> {
    if (FIRST_DAY..=LAST_DAY).contains(&days) {
        Ok(days)
    } else {
        Err("a day outside the years 0001 to 9999, which the stores support".to_owned())
    }
}

/// Text or a number: postal codes are either, depending on the country.
pub(crate) fn plain_text(json: &Json) -> Result<String, String> {
    match json {
        Json::String(text) if text.contains('\0') => Err("contains a NUL character, which PostgreSQL's text does not support".to_owned()),
        Json::String(text) => Ok(text.clone()),
        Json::Number(number) => Ok(number.to_string()),
        other => Err(format!("expected text or a number, found {}", kind(other))),
    }
}

//! Whole numbers in JSON, and the kinds of values.

use serde_json::Value as Json;

/// Integers up to 2^53 are exact in floating point.
const EXACT: f64 = 9_007_199_254_740_992.0;

#[allow(clippy::cast_possible_truncation)] // `fract` and `abs` are checked.
pub(crate) fn whole(json: &Json) -> Result<i64, String> {
    match (json.as_i64(), json.as_f64()) {
        (Some(number), _) => Ok(number),
        (None, Some(number)) if number.fract() == 0.0 && number.abs() <= EXACT => Ok(number as i64),
        (None, Some(_)) => Err("expected a whole number of 64 bits, found another number".to_owned()),
        (None, None) => Err(format!("expected a whole number, found {}", kind(json))),
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

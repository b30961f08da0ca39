//! JSON to CEL's values and back, and errors without the values that they quote.

use std::collections::{HashMap, HashSet};

use cel::{
    ExecutionError, Value as Cel,
    common::{
        types::{CelBool, CelBytes, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelTimestamp, CelUInt, NULL_TYPE},
        value::Val,
    },
};
use chrono::{DateTime, Utc};
use serde_json::{Map, Value as Json};

use crate::value::Value;

const DAY: i64 = 86_400_000;

/// A number in JSON is an `int` where it is written as a whole number, as in Kubernetes' own rules. Texts are borrowed from the item.
pub fn from_json<'v>(json: &'v Json) -> Box<dyn Val + 'v> {
    match json {
        Json::Null => Box::new(CelNull),
        Json::Bool(truth) => Box::new(CelBool::from(*truth)),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(whole), _) => Box::new(CelInt::from(whole)),
            (None, Some(large)) => Box::new(CelUInt::from(large)),
            (None, None) => Box::new(CelDouble::from(number.as_f64().unwrap_or(f64::NAN))),
        },
        Json::String(text) => Box::new(CelString::from(text.as_str())),
        Json::Array(items) => Box::new(CelList::from(items.iter().map(from_json).collect::<Vec<_>>())),
        Json::Object(members) => object(members.iter()),
    }
}

/// A value of a record. A day is the time at which it begins in UTC. `document`: of a field of type json.
pub fn from_value<'v>(value: &'v Value, document: &'v Json) -> Box<dyn Val + 'v> {
    match value {
        Value::Null => Box::new(CelNull),
        Value::String(text) => Box::new(CelString::from(text.as_str())),
        Value::Boolean(truth) => Box::new(CelBool::from(*truth)),
        Value::Long(number) => Box::new(CelInt::from(*number)),
        Value::Double(number) => Box::new(CelDouble::from(*number)),
        Value::Date(days) => time(i64::from(*days) * DAY),
        Value::Timestamp(millis) => time(*millis),
        Value::Uuid(uuid) => Box::new(CelString::from(uuid.to_string())),
        Value::Bytes(bytes) => Box::new(CelBytes::from(bytes.as_slice())),
        Value::Json(_) => from_json(document),
    }
}

/// A record has only years that a time can have.
fn time<'v>(millis: i64) -> Box<dyn Val + 'v> {
    match DateTime::<Utc>::from_timestamp_millis(millis) {
        Some(time) => Box::new(CelTimestamp::from(time.fixed_offset())),
        None => Box::new(CelNull),
    }
}

/// Whether an operator or a function has no value because an operand is null.
pub fn is_of_null(error: &ExecutionError) -> bool {
    use ExecutionError as E;
    let null = NULL_TYPE.name();
    match error {
        E::NoSuchOverload(overload) => overload.argument_types().iter().any(|name| name == null),
        E::UnexpectedType { got, .. } => got == null,
        E::UnsupportedBinaryOperator(_, left, right) | E::ValuesNotComparable(left, right) | E::UnsupportedIndex(left, right) => {
            [left, right].contains(&&Cel::Null)
        }
        E::UnsupportedTargetType { target: value } | E::NotSupportedAsMethod { target: value, .. } | E::UnsupportedKeyType(value) => {
            *value == Cel::Null
        }
        _ => false,
    }
}

/// An object of these members.
pub fn object<'v>(members: impl Iterator<Item = (&'v String, &'v Json)>) -> Box<dyn Val + 'v> {
    let map: HashMap<CelMapKey<'v>, Box<dyn Val + 'v>> = members.map(|(name, json)| (name.as_str().into(), from_json(json))).collect();
    Box::new(CelMap::from(map))
}

/// A value as JSON, objects in the order of their names: a hash map has another one each time.
pub fn to_json(value: &Cel) -> Result<Json, String> {
    if !is_finite(value) {
        return Err("its value is infinite or not a number, which JSON cannot express".to_owned());
    }
    if has_colliding_keys(value) {
        return Err("its value has a map with two keys of the same text, such as 1 and '1'".to_owned());
    }
    let mut json = value
        .json()
        .map_err(|_| "its value is of a type that JSON cannot express".to_owned())?;
    json.sort_all_objects();
    Ok(json)
}

/// JSON's names are texts: which of two values would remain is left to chance.
fn has_colliding_keys(value: &Cel) -> bool {
    match value {
        Cel::List(items) => items.iter().any(has_colliding_keys),
        Cel::Map(map) => {
            let names: HashSet<String> = map.map.keys().map(ToString::to_string).collect();
            names.len() < map.map.len() || map.map.values().any(has_colliding_keys)
        }
        _ => false,
    }
}

fn is_finite(value: &Cel) -> bool {
    match value {
        Cel::Float(number) => number.is_finite(),
        Cel::List(items) => items.iter().all(is_finite),
        Cel::Map(map) => map.map.values().all(is_finite),
        _ => true,
    }
}

/// What went wrong, without values: the library's texts quote the item, which may hold personal data.
pub fn describe(error: &ExecutionError, text: &str) -> String {
    use ExecutionError as E;
    let of = |value: &Cel| value.type_of().to_string();
    match error {
        E::NoSuchKey(name) if text.contains(name.as_str()) => format!("No such key: {name}"),
        E::NoSuchKey(_) => "No such key".to_owned(),
        E::NoSuchOverload(overload) => format!("No such overload: {overload}"),
        E::FunctionError { function, .. } => format!("{}(…) has no value for its arguments", function.trim_start_matches('@')),
        E::UnexpectedType { want, .. } => format!("Unexpected type: want '{want}'"),
        E::UnsupportedTargetType { target } => format!("a function that a value of type {} does not have", of(target)),
        E::NotSupportedAsMethod { method, target } => format!("a value of type {} has no function {method}", of(target)),
        E::ValuesNotComparable(left, right) => format!("{} and {} cannot be compared", of(left), of(right)),
        E::UnsupportedBinaryOperator(operator, left, right) => {
            format!("Unsupported binary operator '{operator}': {}, {}", of(left), of(right))
        }
        E::UnsupportedIndex(index, of_what) => format!("a value of type {} is no index of a {}", of(index), of(of_what)),
        E::UnsupportedKeyType(key) => format!("a value of type {} cannot be a key", of(key)),
        E::DuplicateKey(_) => "a map has a key twice".to_owned(),
        E::DivisionByZero(_) | E::RemainderByZero(_) => "division by zero".to_owned(),
        E::Overflow(operator, ..) => format!("Overflow from operator '{operator}'"),
        E::IndexOutOfBounds(_) => "Index out of bounds".to_owned(),
        E::InvalidArgumentCount { expected, actual } => format!("Invalid argument count: expected {expected}, got {actual}"),
        E::UndeclaredReference(name) => format!("Undeclared reference to '{name}'"),
        _ => "it has no value".to_owned(),
    }
}

/// Some members of an object.
pub fn select<'v>(object_of: &'v Map<String, Json>, names: impl Iterator<Item = &'v String>) -> Box<dyn Val + 'v> {
    object(names.filter_map(|name| object_of.get_key_value(name)))
}

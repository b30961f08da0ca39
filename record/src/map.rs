//! Maps an item to a record.

mod masking;
mod scalars;
mod texts;

use serde_json::{Number, Value as Json};
use userpipeline_api::FieldType;

use crate::{
    Field, Origin, Record, RecordSchema, Value,
    convert::{convert, kind, plain_text},
    pointer::{raw_at, value_at},
    time::ServedTime,
};

/// Bytes. An index entry of PostgreSQL takes at most 2,704.
const MAX_KEY: usize = 2048;
/// Fields. Numbers, times and UUIDs have at most 40 bytes each.
const SHORT_KEY: usize = 32;

// Classes of rejects.
const MISSING: &str = "Missing";
const VALUE_INVALID: &str = "ValueInvalid";
/// The filter has no value for the record.
pub const FILTER_INVALID: &str = "FilterInvalid";

struct Item<'a> {
    json: &'a Json,
    /// The text, if the item was served as JSON.
    written: Option<&'a [u8]>,
}

impl Item<'_> {
    /// The digits of a number, as served: `1.10` is not `1.1`, and a number of more than 64 bits keeps its digits.
    fn as_written(&self, number: &Number, pointer: &str) -> String {
        let written = self.written.filter(|_| number.is_f64()).and_then(|text| raw_at(text, pointer));
        written.map_or_else(|| number.to_string(), |raw| raw.get().to_owned())
    }
}

/// Why an item is not a record. It does not quote the item, because logs and status show it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("field `{field}` (from {from}): {reason}")]
pub struct Reject {
    pub field: String,
    /// The pointer or the expression.
    pub from: String,
    /// In CamelCase: `Missing`, `ValueInvalid`, `ExpressionFailed`, `KeyInvalid`, `VersionInvalid`, `FilterInvalid`, `MaskInvalid`.
    pub class: &'static str,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Mapped {
    Upsert(Record),
    /// A record that does not pass the filter: its earlier version is deleted, but it ranks as an upsert.
    Filtered(Record),
    /// Key and, with `orderBy`, version of a deleted record. The other fields are null.
    Delete(Record),
}

impl Mapped {
    pub fn into_record(self) -> Record {
        let (Self::Upsert(record) | Self::Filtered(record) | Self::Delete(record)) = self;
        record
    }
}

impl RecordSchema {
    /// Maps an item. `written` is its text, if it was served as JSON.
    pub fn map(&self, item: &Json, written: Option<&[u8]>) -> Result<Mapped, Reject> {
        self.map_ordered(item, written).map(|(mapped, _)| mapped)
    }

    /// Maps an item. With `orderBy`, the second value is that of its field at the precision served: a number, or nanoseconds since
    /// 1970. Times after 2262 are all the same.
    pub fn map_ordered(&self, item: &Json, written: Option<&[u8]>) -> Result<(Mapped, Option<i64>), Reject> {
        let item = Item { json: item, written };
        let mut nanos = None;
        let deleted = match &self.delete_when {
            None => false,
            Some(expression) => match expression.evaluate(item.json) {
                Ok(Json::Bool(deleted)) => deleted,
                Ok(other) => return Err(self.delete_when_failed(format!("expected true or false, found {}", kind(&other)))),
                Err(why) => return Err(self.delete_when_failed(why)),
            },
        };
        let field = |field: &Field| {
            let is_order = self.order_by.as_ref() == Some(&field.name);
            if deleted && !self.is_key(field) && !is_order {
                return Ok(Value::Null);
            }
            map_field(field, &item, if is_order { Some(&mut nanos) } else { None })
        };
        let record = self.fields.iter().map(field).collect::<Result<_, _>>().map(Record)?;
        self.check(&record)?;
        let order = self.order(&record, nanos);
        let mapped = if deleted {
            Mapped::Delete(self.mask(record)?)
        } else {
            self.filter(record)?
        };
        Ok((mapped, order))
    }

    /// Whether a record passes the filter, which reads the values before they are masked.
    fn filter(&self, record: Record) -> Result<Mapped, Reject> {
        let Some(filter) = &self.filter else {
            return self.mask(record).map(Mapped::Upsert);
        };
        match filter.passes(&record) {
            Ok(true) => self.mask(record).map(Mapped::Upsert),
            Ok(false) => self.mask(record).map(Mapped::Filtered),
            Err(reason) => Err(Reject {
                field: "where".to_owned(),
                from: filter.text().to_owned(),
                class: FILTER_INVALID,
                reason,
            }),
        }
    }

    /// The value of `orderBy`. `nanos`: its time as it was served, if that is more precise than the record's.
    pub fn order(&self, record: &Record, nanos: Option<i64>) -> Option<i64> {
        match record.0[self.position(self.order_by.as_deref()?)?] {
            Value::Timestamp(millis) => Some(nanos.unwrap_or(ServedTime::of_millis(millis).nanos)),
            Value::Long(number) => Some(number),
            _ => None,
        }
    }

    /// The version of a record with `orderBy`: a time in microseconds, or a number.
    pub fn version(&self, record: &Record) -> Option<i64> {
        match record.0[self.position(self.order_by.as_deref()?)?] {
            Value::Timestamp(millis) => millis.checked_mul(1000),
            Value::Long(number) => Some(number),
            _ => None,
        }
    }

    /// The value of `orderBy` of a version that follows from it.
    pub fn order_of_version(&self, version: i64) -> Option<i64> {
        let field = &self.fields[self.position(self.order_by.as_deref()?)?];
        let is_time = field.field_type == FieldType::Timestamp;
        Some(if is_time { version.saturating_mul(1000) } else { version })
    }

    fn delete_when_failed(&self, reason: String) -> Reject {
        Reject {
            field: "deleteWhen".to_owned(),
            from: self.delete_when.as_ref().map_or_else(String::new, |e| e.text().to_owned()),
            class: "ExpressionFailed",
            reason,
        }
    }

    fn check(&self, record: &Record) -> Result<(), Reject> {
        self.check_key(record)?;
        self.check_version(record)
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
                let reason = "empty, which Cassandra does not support in a key".to_owned();
                return Err(reject(&self.fields[position].name, reason));
            }
        }
        if self.has_short_key(record) {
            return Ok(());
        }
        let length = record.key(self).len();
        if length > MAX_KEY {
            let reason = format!("the key has {length} bytes; at most {MAX_KEY} fit into an index");
            return Err(reject(&self.key[0], reason));
        }
        Ok(())
    }

    /// Whether the key is known to be short without being written.
    fn has_short_key(&self, record: &Record) -> bool {
        let mut values = self.key_positions().map(|position| &record.0[position]);
        self.key.len() <= SHORT_KEY && values.all(|value| !matches!(value, Value::String(_) | Value::Json(_) | Value::Bytes(_)))
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

/// `nanos` becomes the time as it was served, for a field of type timestamp.
fn map_field(field: &Field, item: &Item<'_>, nanos: Option<&mut Option<i64>>) -> Result<Value, Reject> {
    let reject = |from: &str, class, reason: String| Reject {
        field: field.name.clone(),
        from: from.to_owned(),
        class,
        reason,
    };
    let evaluated;
    let (from, found) = match &field.from {
        Origin::Pointer(pointer) => (pointer.as_str(), value_at(item.json, pointer)),
        Origin::Template(template) => return fill(field, template, item),
        Origin::Expression(expression) => {
            evaluated = expression
                .evaluate(item.json)
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
        (Some(json), _) if field.field_type == FieldType::Timestamp => {
            let time = field.time_form.read(json, item.written.is_none());
            let time = time.map_err(|why| reject(from, VALUE_INVALID, why))?;
            if let Some(nanos) = nanos {
                *nanos = Some(time.nanos);
            }
            Ok(Value::Timestamp(time.millis))
        }
        (Some(json), _) => convert(field.field_type, json).map_err(|why| reject(from, VALUE_INVALID, why)),
    }
}

/// Replaces the pointers of a template. If a value is missing or null, the field is null or has its default.
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
        match value_at(item.json, pointer) {
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

#[cfg(test)]
mod tests;

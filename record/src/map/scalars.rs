//! Maps an item by the values of its members, without building it. What that does not map is left to the item, which then has the
//! reason of a reject.

use serde_json::Value as Json;
use userpipeline_api::FieldType;
use uuid::Uuid;

use super::texts::absent;
use crate::{
    Field, Mapped, Members, RecordSchema, Value,
    convert::{convert, plain_text},
    members::Source,
    scalar::Scalar,
};

impl RecordSchema {
    /// Maps an item that was not served as JSON, with the value of `orderBy` as [`RecordSchema::map_ordered`] has it. `found`: the values
    /// of `members`, which are those of this schema. None if the item has to be built: it may be a record or not.
    pub(crate) fn map_scalars(&self, members: &Members, found: &[Scalar<'_>]) -> Option<(Mapped, Option<i64>)> {
        self.map_members(members, |field, source, nanos| match source {
            Source::Value(position) => value(field, found[*position], nanos),
            Source::Template(parts, end) => fill(field, parts, end, found),
        })
    }
}

/// `nanos` becomes the time as it was served, for a field of type timestamp.
fn value(field: &Field, found: Scalar<'_>, nanos: Option<&mut Option<i64>>) -> Option<Value> {
    match (field.field_type, found) {
        (_, Scalar::Null) => absent(field),
        (FieldType::String, Scalar::Text(text)) => (!text.contains('\0')).then(|| Value::String(text.to_owned())),
        (FieldType::Int | FieldType::Long, Scalar::Number(number)) => Some(Value::Long(number)),
        (FieldType::Boolean, Scalar::Boolean(truth)) => Some(Value::Boolean(truth)),
        (FieldType::Uuid, Scalar::Uuid(uuid)) => Some(Value::Uuid(uuid)),
        (FieldType::Uuid, Scalar::Text(text)) => Uuid::try_parse(text).ok().map(Value::Uuid),
        (FieldType::Bytes, Scalar::Bytes(bytes)) => Some(Value::Bytes(bytes.to_vec())),
        (FieldType::Timestamp, found) => {
            // Numbers are milliseconds: the writer's schema has their unit.
            let time = match found {
                Scalar::Text(text) => field.time_form.read_text(text, true),
                found => field.time_form.read(&found.json(), true),
            };
            let time = time.ok()?;
            if let Some(nanos) = nanos {
                *nanos = Some(time.nanos);
            }
            Some(Value::Timestamp(time.millis))
        }
        (field_type, found) => convert(field_type, &found.json()).ok(),
    }
}

fn fill(field: &Field, parts: &[(String, usize)], end: &str, found: &[Scalar<'_>]) -> Option<Value> {
    let mut filled = String::with_capacity(64);
    for (before, position) in parts {
        filled.push_str(before);
        match found[*position] {
            Scalar::Null => return RecordSchema::may_lack(field).then(|| field.default.clone().unwrap_or(Value::Null)),
            Scalar::Text(text) if !text.contains('\0') => filled.push_str(text),
            found => match found.json() {
                Json::Number(number) => filled.push_str(&number.to_string()),
                other => filled.push_str(&plain_text(&other).ok()?),
            },
        }
    }
    filled.push_str(end);
    Some(Value::String(filled))
}

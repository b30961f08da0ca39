//! Items as they were served, without what masked fields read.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use userpipeline_api::RawItems;

use crate::{Reads, RecordSchema, item::field_reads, mask::REDACTED};

/// What is stored of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RawForm {
    Keep,
    /// Without these parts.
    Masked(Reads),
    Nothing,
}

const NULL: &str = "null";

impl RawForm {
    pub fn of(schema: &RecordSchema, declared: Option<RawItems>) -> Self {
        let mut reads = Reads::Nothing;
        for field in schema.fields.iter().filter(|field| field.mask.is_some()) {
            reads.add_all(&field_reads(field));
        }
        match declared {
            Some(RawItems::Keep) => Self::Keep,
            Some(RawItems::None) => Self::Nothing,
            Some(RawItems::Masked) | None if reads == Reads::Nothing => Self::Keep,
            Some(RawItems::Masked) | None => Self::Masked(reads),
        }
    }

    /// What is stored instead of an item, if that is not the item. `is_item`: it is JSON as it was served.
    pub fn replacement(&self, text: &str, is_item: bool) -> Option<String> {
        match self {
            Self::Keep => None,
            Self::Nothing => Some(NULL.to_owned()),
            Self::Masked(_) if !is_item => Some(NULL.to_owned()),
            Self::Masked(reads) => Some(match serde_json::from_str(text) {
                Ok(mut item) => {
                    mask(&mut item, reads);
                    item.to_string()
                }
                Err(_) => NULL.to_owned(),
            }),
        }
    }
}

/// Replaces the parts of a value that are read. Recursive: the parser bounds the depth.
fn mask(value: &mut Json, reads: &Reads) {
    match (reads, value) {
        (Reads::Nothing, _) | (_, Json::Null) => {}
        (Reads::Parts(parts), Json::Object(members)) => each(parts, |name, reads| {
            if let Some(member) = members.get_mut(name) {
                mask(member, reads);
            }
        }),
        (Reads::Parts(parts), Json::Array(elements)) => each(parts, |name, reads| {
            if let Some(element) = name.parse::<usize>().ok().and_then(|index| elements.get_mut(index)) {
                mask(element, reads);
            }
        }),
        (_, value) => *value = REDACTED.into(),
    }
}

fn each(parts: &BTreeMap<String, Reads>, mut mask: impl FnMut(&str, &Reads)) {
    for (name, reads) in parts {
        mask(name, reads);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema(masked: &Json) -> RecordSchema {
        let mut fields = vec![
            json!({"name": "id", "type": "string", "from": "/id"}),
            json!({"name": "city", "type": "string", "from": "/address/city"}),
        ];
        let mut field = json!({"name": "masked", "type": "string", "optional": true, "mask": {"with": "Redact"}});
        for (name, value) in masked.as_object().unwrap() {
            field[name] = value.clone();
        }
        fields.push(field);
        let record = json!({"key": ["id"], "fields": fields});
        RecordSchema::of(Some(&serde_json::from_value(record).unwrap())).unwrap()
    }

    #[test]
    fn what_a_masked_field_reads_is_replaced_and_the_rest_stays() {
        let item = json!({"id": "1", "address": {"city": "C", "street": "S"}, "tags": ["a", "b"], "nil": null});
        for (masked, expected) in [
            (
                json!({"from": "/address/street"}),
                json!({"id": "1", "address": {"city": "C", "street": "***"}, "tags": ["a", "b"], "nil": null}),
            ),
            (
                json!({"from": "/address"}),
                json!({"id": "1", "address": "***", "tags": ["a", "b"], "nil": null}),
            ),
            (
                json!({"template": "{/tags/1} {/nil}"}),
                json!({"id": "1", "address": {"city": "C", "street": "S"}, "tags": ["a", "***"], "nil": null}),
            ),
            (
                json!({"expr": "item.address.street + item.tags[0]"}),
                json!({"id": "1", "address": {"city": "C", "street": "***"}, "tags": ["***", "b"], "nil": null}),
            ),
            // It may read any part.
            (json!({"expr": "string(item.exists(x, x == 'a'))"}), json!("***")),
            (json!({"from": "/missing"}), item.clone()),
            // It holds something else than the field expects.
            (
                json!({"from": "/id/number"}),
                json!({"id": "***", "address": {"city": "C", "street": "S"}, "tags": ["a", "b"], "nil": null}),
            ),
        ] {
            let form = RawForm::of(&schema(&masked), None);
            let found = form.replacement(&item.to_string(), true).unwrap();
            assert_eq!(serde_json::from_str::<Json>(&found).unwrap(), expected, "{masked}");
        }
    }

    #[test]
    fn what_is_not_json_is_not_stored_with_a_mask() {
        let masked = schema(&json!({"from": "/x"}));
        for (declared, text, is_item, expected) in [
            (None, "{oops", true, Some("null")),
            (None, "\"a line\"", false, Some("null")),
            (Some(RawItems::Masked), "17", true, Some("\"***\"")),
            (Some(RawItems::None), "{}", true, Some("null")),
            (Some(RawItems::Keep), "{oops", false, None),
        ] {
            let found = RawForm::of(&masked, declared).replacement(text, is_item);
            assert_eq!(found.as_deref(), expected, "{declared:?} {text}");
        }
        let plain = RecordSchema::user();
        assert_eq!(RawForm::of(&plain, None), RawForm::Keep);
        assert_eq!(RawForm::of(&plain, Some(RawItems::None)), RawForm::Nothing);
    }
}

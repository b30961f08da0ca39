//! From the last version of a subject of ours to the next one: what changes, and whether a record may change so. Pure.
//!
//! A registry judges whether readers and writers understand each other, by a level that may be `NONE`. This judges what becomes of the
//! rows that are there, and of the messages that are still on the topic: fields come and go only where a record may lack them.

use serde_json::Value as Json;
use userpipeline_stores::{StoreError, error::SCHEMA_INCOMPATIBLE};

/// What the next version changes, in words; an error that names field and rule where it must not. Both are Avro records.
pub fn changes(subject: &str, last: &Json, next: &Json) -> Result<Vec<String>, StoreError> {
    let refused = |field: &str, rule: &str| {
        Err(StoreError::configuration(
            SCHEMA_INCOMPATIBLE,
            format!(
                "field `{field}` of spec.record, compared with the last version of subject `{subject}`: {rule}; undo the change, or create a new pipeline with another topic"
            ),
        ))
    };
    // A foreign record: only the registry checks it.
    if [last, next].iter().any(|schema| fields(schema).is_empty()) || last["name"] != next["name"] {
        return Ok(vec!["is another record".to_owned()]);
    }
    let mut changes = Vec::new();
    for was in fields(last) {
        let name = name(was);
        match find(next, name) {
            None if !may_lack(was) => {
                return refused(
                    name,
                    "it is gone, and was neither optional nor had a default, so that every row has it",
                );
            }
            None => changes.push(format!("takes back `{name}`")),
            Some(is) if is["type"] != was["type"] => {
                return refused(name, &format!("its type becomes {} and was {}", is["type"], was["type"]));
            }
            Some(is) if is.get("default") != was.get("default") => {
                let value = |field: &Json| field.get("default").map_or_else(|| "none".to_owned(), Json::to_string);
                return refused(name, &format!("its default becomes {} and was {}", value(is), value(was)));
            }
            Some(is) if is.get("doc") != was.get("doc") => changes.push(format!("changes the doc of `{name}`")),
            Some(_) => {}
        }
    }
    for is in fields(next) {
        let name = name(is);
        if find(last, name).is_none() {
            if !may_lack(is) {
                return refused(
                    name,
                    "it is new, and neither optional nor has a default, so that rows and messages from before are without it",
                );
            }
            changes.push(format!("adds `{name}`"));
        }
    }
    Ok(changes)
}

fn fields(schema: &Json) -> &[Json] {
    schema.get("fields").and_then(Json::as_array).map_or(&[], Vec::as_slice)
}

fn name(field: &Json) -> &str {
    field.get("name").and_then(Json::as_str).unwrap_or_default()
}

fn find<'a>(schema: &'a Json, desired: &str) -> Option<&'a Json> {
    fields(schema).iter().find(|field| name(field) == desired)
}

/// An optional field has the default null.
fn may_lack(field: &Json) -> bool {
    field.get("default").is_some()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(fields: &[Json]) -> Json {
        let mut all = vec![json!({"name": "id", "type": "string", "doc": "The key"})];
        all.extend_from_slice(fields);
        json!({"type": "record", "name": "User", "namespace": "n", "fields": all})
    }

    fn optional() -> Json {
        json!({"name": "x", "type": ["null", "long"], "default": null, "doc": ""})
    }

    fn defaulted(default: i64) -> Json {
        json!({"name": "x", "type": "long", "default": default, "doc": ""})
    }

    fn required() -> Json {
        json!({"name": "x", "type": "long", "doc": ""})
    }

    #[test]
    fn fields_come_and_go_only_where_a_record_may_lack_them() {
        for (last, next, expected) in [
            (vec![], vec![], Ok(vec![])),
            (vec![], vec![optional()], Ok(vec!["adds `x`"])),
            (vec![], vec![defaulted(0)], Ok(vec!["adds `x`"])),
            (vec![optional()], vec![], Ok(vec!["takes back `x`"])),
            (vec![defaulted(0)], vec![], Ok(vec!["takes back `x`"])),
            (vec![], vec![required()], Err("it is new, and neither optional")),
            (vec![required()], vec![], Err("it is gone, and was neither optional")),
            (vec![optional()], vec![required()], Err("its type becomes")),
            (vec![required()], vec![optional()], Err("its type becomes")),
            (vec![defaulted(0)], vec![defaulted(1)], Err("its default becomes 1 and was 0")),
            (vec![defaulted(0)], vec![required()], Err("its default becomes none and was 0")),
            (vec![required()], vec![defaulted(0)], Err("its default becomes 0 and was none")),
        ] {
            match (changes("s", &record(&last), &record(&next)), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{last:?} to {next:?}"),
                (Err(error), Err(expected)) => {
                    assert_eq!(error.reason, SCHEMA_INCOMPATIBLE);
                    assert!(
                        error.message.contains("field `x`") && error.message.contains(expected),
                        "{}",
                        error.message
                    );
                }
                (found, expected) => panic!("{last:?} to {next:?}: {found:?}, not {expected:?}"),
            }
        }
    }

    #[test]
    fn a_doc_may_change() {
        let mut documented = record(&[]);
        documented["fields"][0]["doc"] = json!("Whose");
        assert_eq!(changes("s", &record(&[]), &documented).unwrap(), ["changes the doc of `id`"]);
    }

    #[test]
    fn another_record_is_left_to_the_registry() {
        let mut other = record(&[required()]);
        other["name"] = json!("Order");
        for last in [other, json!("string"), Json::Null] {
            assert_eq!(changes("s", &last, &record(&[])).unwrap(), ["is another record"], "{last}");
        }
    }
}

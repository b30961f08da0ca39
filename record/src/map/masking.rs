//! Masks the fields of a record that is mapped.

use userpipeline_api::SecretKeyRef;

use crate::{Mask, Record, RecordSchema, Value, map::Reject};

impl RecordSchema {
    /// Reads the keys of masks, without which every item is rejected. `read` gets the reference and its place in the spec, for messages.
    /// Returns the problems of keys that were read.
    pub fn read_mask_keys<E>(&mut self, read: impl Fn(&SecretKeyRef, &str) -> Result<String, E>) -> Result<Vec<String>, E> {
        let mut problems = Vec::new();
        for (i, field) in self.fields.iter_mut().enumerate() {
            let Some(Mask::Hmac(key)) = &mut field.mask else { continue };
            let at = format!("spec.record.fields[{i}].mask.keySecretRef, field `{}`", field.name);
            let text = read(&key.secret, &at)?;
            if let Err(problem) = key.set(&text) {
                let SecretKeyRef { name, key } = &key.secret;
                problems.push(format!("key `{key}` of Secret `{name}` ({at}) {problem}: replace it"));
            }
        }
        Ok(problems)
    }

    /// Replaces the values of masked fields.
    pub(super) fn mask(&self, mut record: Record) -> Result<Record, Reject> {
        for (field, value) in self.fields.iter().zip(&mut record.0) {
            let Some(mask) = &field.mask else { continue };
            let masked = mask.apply(std::mem::replace(value, Value::Null), field.optional);
            *value = masked.ok_or_else(|| Reject {
                field: field.name.clone(),
                from: "mask".to_owned(),
                class: "MaskInvalid",
                reason: "the value cannot be masked".to_owned(),
            })?;
        }
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::{Mapped, Members};

    /// HMAC of `ann@example.com`, by openssl.
    const ANN: &str = "52ecd7806231652c1f13fc2162dcb8072bac0d630d23baee3a157c19603af237";

    fn schema() -> RecordSchema {
        let record = json!({"key": ["email"], "orderBy": "revision", "deleteWhen": "has(item.gone)", "where": "age >= 18 && email != ''", "fields": [
            {"name": "revision", "type": "long", "from": "/revision"},
            {"name": "email", "type": "string", "from": "/email", "mask": {"with": "HMAC", "keySecretRef": {"name": "masks", "key": "email"}}},
            {"name": "age", "type": "int", "from": "/age", "optional": true, "mask": {"with": "Bucket", "size": 10}},
        ]});
        RecordSchema::of(Some(&serde_json::from_value(record).unwrap())).unwrap()
    }

    fn with_key() -> RecordSchema {
        let mut schema = schema();
        let problems = schema.read_mask_keys(|_, _| Ok::<_, ()>("k".repeat(32))).unwrap();
        assert_eq!(problems, Vec::<String>::new());
        schema
    }

    #[test]
    fn what_is_decided_of_a_record_follows_from_its_values_and_what_is_stored_from_its_masks() {
        let schema = with_key();
        let record = |age: Value| Record(vec![Value::Long(7), Value::String(ANN.to_owned()), age]);
        for (more, expected) in [
            (json!({"age": 18}), Mapped::Upsert(record(Value::Long(10)))),
            (json!({"age": 17}), Mapped::Filtered(record(Value::Long(10)))),
            (json!({"age": null}), Mapped::Filtered(record(Value::Null))),
            (json!({"age": 18, "gone": true}), Mapped::Delete(record(Value::Null))),
        ] {
            let mut item = json!({"email": "ann@example.com", "revision": 7});
            item.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let text = item.to_string();
            let mapped = schema.map_ordered(&item, Some(text.as_bytes())).unwrap();
            assert_eq!(mapped, (expected, Some(7)), "{item}");
        }
    }

    #[test]
    fn an_item_that_is_not_parsed_has_the_same_masks() {
        let mut record: Json = json!({"key": ["id"], "fields": [{"name": "id", "type": "string", "from": "/id"}]});
        for (name, mask) in [
            ("a", json!({"with": "Redact"})),
            ("b", json!({"with": "Truncate", "length": 2})),
            ("c", json!({"with": "HMAC", "keySecretRef": {"name": "masks", "key": "email"}})),
        ] {
            let field = json!({"name": name, "type": "string", "from": format!("/{name}"), "mask": mask});
            record["fields"].as_array_mut().unwrap().push(field);
        }
        let mut schema = RecordSchema::of(Some(&serde_json::from_value(record).unwrap())).unwrap();
        schema.read_mask_keys(|_, _| Ok::<_, ()>("k".repeat(32))).unwrap();
        let item = json!({"id": "1", "a": "Ann", "b": "\u{c5}se", "c": "ann@example.com"});
        let found = schema.map_text(&item.to_string(), &Members::of(&schema).unwrap()).unwrap().0;
        let expected = ["1", "***", "\u{c5}s", ANN].map(|text| Value::String(text.to_owned()));
        assert_eq!(found, Mapped::Upsert(Record(expected.to_vec())));
        assert_eq!(schema.map(&item, None), Ok(found));
    }

    #[test]
    fn without_its_key_an_hmac_lets_nothing_pass() {
        let item = json!({"email": "ann@example.com", "revision": 7, "age": 18});
        let reject = schema().map(&item, None).unwrap_err();
        assert_eq!((reject.field.as_str(), reject.class), ("email", "MaskInvalid"));

        let missing = schema().read_mask_keys(|secret, at| Err::<String, _>(format!("{} {at}", secret.name)));
        assert_eq!(missing.unwrap_err(), "masks spec.record.fields[1].mask.keySecretRef, field `email`");

        let mut short = schema();
        let problems = short.read_mask_keys(|_, _| Ok::<_, ()>("k".repeat(31))).unwrap();
        let expected = "key `email` of Secret `masks` (spec.record.fields[1].mask.keySecretRef, field `email`) has 31 bytes; an HMAC needs at least 32: replace it";
        assert_eq!(problems, [expected]);
        assert!(short.map(&item, None).is_err());
    }
}

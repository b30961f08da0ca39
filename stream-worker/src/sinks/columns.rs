//! Whether an existing table can hold the records. Pure.

use userpipeline_record::{Field, RecordSchema};
use userpipeline_stores::{StoreError, error::TABLE_MISMATCH};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    /// As the store writes it.
    pub data_type: String,
    /// NOT NULL, and without a default.
    pub required: bool,
    pub not_null: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequiredColumn {
    pub name: String,
    /// As the store writes it.
    pub data_type: &'static str,
    /// Whether null may be written.
    pub optional: bool,
}

/// The fields whose columns are to be added to an existing table: those that a row may lack. Any other missing column is an
/// error, because the existing rows lack it.
pub fn to_add<'a>(table: &str, schema: &'a RecordSchema, found: &[Column]) -> Result<Vec<&'a Field>, StoreError> {
    let missing: Vec<&Field> = schema.fields.iter().filter(|f| !found.iter().any(|c| c.name == f.name)).collect();
    // Without any of them it is a foreign table; its verification has the better message.
    if missing.len() == schema.fields.len() {
        return Ok(Vec::new());
    }
    match missing.iter().find(|field| !RecordSchema::may_lack(field)) {
        Some(field) => Err(StoreError::configuration(
            TABLE_MISMATCH,
            format!(
                "table {table}: column `{0}` is missing, and field `{0}` of spec.record is neither optional nor has a default, so existing rows \
                 would lack it: give the field a default; or remove it, apply, and add it again with `optional: true`",
                field.name
            ),
        )),
        None => Ok(missing),
    }
}

/// Compares a table with the required columns. It may have others, as long as rows without them are accepted: if not, every
/// record would be refused and become a dead letter.
pub fn verify(
    table: &str,
    required: &[RequiredColumn],
    required_key: &[String],
    found: &[Column],
    found_key: &[String],
) -> Result<(), StoreError> {
    let mismatch = |what: String| {
        StoreError::configuration(
            TABLE_MISMATCH,
            format!("table {table}: {what}; change the table, or create a new pipeline with another name"),
        )
    };
    for column in required {
        let Some(existing) = found.iter().find(|f| f.name == column.name) else {
            return Err(mismatch(format!(
                "column `{}` of type {} is missing",
                column.name, column.data_type
            )));
        };
        if existing.data_type != column.data_type {
            return Err(mismatch(format!(
                "column `{}` must be of type {} and is of type {}",
                column.name, column.data_type, existing.data_type
            )));
        }
        if existing.name == "_ingested_at" && existing.required {
            return Err(mismatch(
                "column `_ingested_at` is NOT NULL and needs the default now(): no statement writes it".to_owned(),
            ));
        }
        if column.optional && existing.not_null {
            return Err(mismatch(format!("column `{}` must accept null and is NOT NULL", column.name)));
        }
    }
    if let Some(extra) = found.iter().find(|f| f.required && !required.iter().any(|w| w.name == f.name)) {
        return Err(mismatch(format!(
            "column `{}` is no field of spec.record (or no longer one) and is NOT NULL without a default, so that no record could be written",
            extra.name
        )));
    }
    let sorted = |key: &[String]| {
        let mut key = key.to_vec();
        key.sort();
        key
    };
    if sorted(required_key) != sorted(found_key) {
        let list = |key: &[String]| {
            if key.is_empty() {
                "missing".to_owned()
            } else {
                format!("({})", key.join(", "))
            }
        };
        return Err(mismatch(format!(
            "the primary key must be {} and is {}",
            list(required_key),
            list(found_key)
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str, data_type: &str, required: bool) -> Column {
        Column {
            name: name.into(),
            data_type: data_type.into(),
            required,
            not_null: required,
        }
    }

    fn required() -> [RequiredColumn; 3] {
        [("id", "uuid", false), ("dob", "timestamptz", false), ("nick", "text", true)].map(|(name, data_type, optional)| RequiredColumn {
            name: name.to_owned(),
            data_type,
            optional,
        })
    }

    #[test]
    fn a_mismatch_names_table_column_expected_and_found() {
        let (id, dob) = (|| found("id", "uuid", true), || found("dob", "timestamptz", true));
        let (nick, note) = (|| found("nick", "text", false), |required| found("note", "text", required));
        let all = || vec![id(), dob(), nick()];
        let and = |column| all().into_iter().chain([column]).collect::<Vec<_>>();
        let cases: Vec<(Vec<Column>, Vec<&str>, Option<&str>)> = vec![
            (all(), vec!["id"], None),
            (and(note(false)), vec!["id"], None),
            (vec![id(), nick()], vec!["id"], Some("column `dob` of type timestamptz is missing")),
            (
                vec![id(), found("dob", "text", true), nick()],
                vec!["id"],
                Some("column `dob` must be of type timestamptz and is of type text"),
            ),
            (
                vec![id(), dob(), found("nick", "text", true)],
                vec!["id"],
                Some("column `nick` must accept null"),
            ),
            (and(note(true)), vec!["id"], Some("column `note` is no field of spec.record")),
            (all(), vec![], Some("the primary key must be (id) and is missing")),
            (all(), vec!["id", "dob"], Some("the primary key must be (id) and is (id, dob)")),
        ];
        for (columns, primary, expected) in cases {
            let primary: Vec<String> = primary.into_iter().map(str::to_owned).collect();
            let result = verify("`users`", &required(), &["id".to_owned()], &columns, &primary);
            match expected {
                None => assert_eq!(result, Ok(())),
                Some(text) => {
                    let error = result.unwrap_err();
                    assert_eq!(error.reason, TABLE_MISMATCH);
                    assert!(
                        error.message.starts_with("table `users`: ") && error.message.contains(text),
                        "{}",
                        error.message
                    );
                }
            }
        }
    }

    #[test]
    fn a_field_is_added_to_a_table_where_a_row_may_lack_it_and_nowhere_else() {
        let field = |name: &str, more: serde_json::Value| {
            let mut field = serde_json::json!({"name": name, "type": "long", "from": format!("/{name}")});
            field.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            field
        };
        let declared = serde_json::json!({"key": ["id"], "fields": [
            field("id", serde_json::json!({})), field("note", serde_json::json!({"optional": true})),
            field("level", serde_json::json!({"default": 1})), field("size", serde_json::json!({})),
        ]});
        let schema = RecordSchema::of(Some(&serde_json::from_value(declared).unwrap())).unwrap();
        let there = |names: &[&str]| names.iter().map(|name| found(name, "int8", true)).collect::<Vec<_>>();
        for (names, expected) in [
            (vec!["id", "size"], Ok(vec!["note", "level"])),
            (vec!["id", "size", "note", "level", "old"], Ok(vec![])),
            (vec!["other"], Ok(vec![])),
            (
                vec!["id", "note"],
                Err("field `size` of spec.record is neither optional nor has a default"),
            ),
        ] {
            match (to_add("`t`", &schema, &there(&names)), expected) {
                (Ok(fields), Ok(expected)) => assert_eq!(fields.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(), expected),
                (Err(error), Err(says)) => assert!(error.message.contains(says), "{}", error.message),
                (found, expected) => panic!("{names:?}: {found:?}, not {expected:?}"),
            }
        }
    }
}

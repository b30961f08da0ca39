//! Whether a table that was there already can hold the records. Pure.

use userpipeline_stores::{StoreError, error::TABLE_MISMATCH};

/// A column that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// Its type, as the store writes it.
    pub data_type: String,
    /// Whether a row cannot be without it, nor does it have a default.
    pub required: bool,
}

/// A column that is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its name.
    pub name: String,
    /// Its type, as the store writes it.
    pub data_type: &'static str,
    /// Whether we may write null.
    pub optional: bool,
}

/// Compares a table with what is needed. Columns beyond that are somebody's own business, as long as rows without them
/// are accepted: if not, every record would be refused, and become a dead letter.
pub fn verify(table: &str, wanted: &[Wanted], wanted_key: &[String], found: &[Found], found_key: &[String]) -> Result<(), StoreError> {
    let mismatch = |what: String| {
        StoreError::configuration(
            TABLE_MISMATCH,
            format!("table {table}: {what}; change the table, or make a new pipeline with another name"),
        )
    };
    for column in wanted {
        let Some(there) = found.iter().find(|f| f.name == column.name) else {
            return Err(mismatch(format!(
                "column `{}` of type {} is missing",
                column.name, column.data_type
            )));
        };
        if there.data_type != column.data_type {
            return Err(mismatch(format!(
                "column `{}` must be of type {} and is of type {}",
                column.name, column.data_type, there.data_type
            )));
        }
        if column.optional && there.required {
            return Err(mismatch(format!("column `{}` must accept null and is NOT NULL", column.name)));
        }
    }
    if let Some(extra) = found.iter().find(|f| f.required && !wanted.iter().any(|w| w.name == f.name)) {
        return Err(mismatch(format!(
            "column `{}` is none of ours and is NOT NULL without a default, so that no record could be written",
            extra.name
        )));
    }
    let sorted = |key: &[String]| {
        let mut key = key.to_vec();
        key.sort();
        key
    };
    if sorted(wanted_key) != sorted(found_key) {
        let list = |key: &[String]| {
            if key.is_empty() {
                "missing".to_owned()
            } else {
                format!("({})", key.join(", "))
            }
        };
        return Err(mismatch(format!(
            "the primary key must be {} and is {}",
            list(wanted_key),
            list(found_key)
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str, data_type: &str, required: bool) -> Found {
        Found {
            name: name.into(),
            data_type: data_type.into(),
            required,
        }
    }

    #[test]
    fn a_mismatch_names_table_column_expected_and_found() {
        let wanted = [
            Wanted {
                name: "id".into(),
                data_type: "uuid",
                optional: false,
            },
            Wanted {
                name: "dob".into(),
                data_type: "timestamptz",
                optional: false,
            },
            Wanted {
                name: "nick".into(),
                data_type: "text",
                optional: true,
            },
        ];
        let id = found("id", "uuid", true);
        let dob = found("dob", "timestamptz", true);
        let nick = found("nick", "text", false);
        let key = ["id".to_owned()];
        let cases: Vec<(Vec<Found>, Vec<&str>, Option<&str>)> = vec![
            (vec![id.clone(), dob.clone(), nick.clone()], vec!["id"], None),
            (
                vec![id.clone(), dob.clone(), nick.clone(), found("note", "text", false)],
                vec!["id"],
                None,
            ),
            (
                vec![id.clone(), nick.clone()],
                vec!["id"],
                Some("column `dob` of type timestamptz is missing"),
            ),
            (
                vec![id.clone(), found("dob", "text", true), nick.clone()],
                vec!["id"],
                Some("column `dob` must be of type timestamptz and is of type text"),
            ),
            (
                vec![id.clone(), dob.clone(), found("nick", "text", true)],
                vec!["id"],
                Some("column `nick` must accept null"),
            ),
            (
                vec![id.clone(), dob.clone(), nick.clone(), found("note", "text", true)],
                vec!["id"],
                Some("column `note` is none of ours"),
            ),
            (
                vec![id.clone(), dob.clone(), nick.clone()],
                vec![],
                Some("the primary key must be (id) and is missing"),
            ),
            (
                vec![id, dob, nick],
                vec!["id", "dob"],
                Some("the primary key must be (id) and is (id, dob)"),
            ),
        ];
        for (columns, primary, expected) in cases {
            let primary: Vec<String> = primary.into_iter().map(str::to_owned).collect();
            let result = verify("`users`", &wanted, &key, &columns, &primary);
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
}

//! What a store must hold for a user, worked out from the source's JSON without the code under test.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;

/// One row: a column's name to its value as text; a time as milliseconds since the epoch.
pub type Row = BTreeMap<String, String>;

/// Rows by key.
pub type Rows = BTreeMap<String, Row>;

/// The columns of a user, in order, and whether they hold a time.
pub const COLUMNS: &[(&str, bool)] = &[
    ("id", false),
    ("first_name", false),
    ("last_name", false),
    ("gender", false),
    ("address", false),
    ("post_code", false),
    ("email", false),
    ("username", false),
    ("dob", true),
    ("registered_date", true),
    ("phone", false),
    ("picture", false),
];

/// The row of a user.
pub fn row(user: &Value) -> Result<Row> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let time = |value: &Value| -> Result<String> {
        Ok(value
            .as_str()
            .context("a time")?
            .parse::<k8s_openapi::jiff::Timestamp>()?
            .as_millisecond()
            .to_string())
    };
    let at = &user["location"];
    let address = format!(
        "{} {}, {}, {}, {}",
        at["street"]["number"],
        text(&at["street"]["name"]),
        text(&at["city"]),
        text(&at["state"]),
        text(&at["country"])
    );
    let values = [
        text(&user["login"]["uuid"]),
        text(&user["name"]["first"]),
        text(&user["name"]["last"]),
        text(&user["gender"]),
        address,
        text(&at["postcode"]),
        text(&user["email"]),
        text(&user["login"]["username"]),
        time(&user["dob"]["date"])?,
        time(&user["registered"]["date"])?,
        text(&user["phone"]),
        text(&user["picture"]["medium"]),
    ];
    Ok(COLUMNS.iter().map(|(name, _)| (*name).to_owned()).zip(values).collect())
}

/// The rows of users, by key.
pub fn rows(users: &[Value]) -> Result<Rows> {
    users.iter().map(|user| row(user).map(|row| (row["id"].clone(), row))).collect()
}

/// Fails with the first difference, in words, where two stores do not hold the same.
///
/// # Panics
/// At the first difference: that is the failure of the story.
pub fn assert_same(what: &str, found: &Rows, wanted: &Rows) {
    for (key, row) in wanted {
        let Some(other) = found.get(key) else {
            panic!("{what} lacks {key} ({} of {} keys are there)", found.len(), wanted.len())
        };
        for (column, value) in row {
            assert_eq!(other.get(column), Some(value), "{what}: {column} of {key}");
        }
    }
    let extra: Vec<_> = found.keys().filter(|key| !wanted.contains_key(*key)).take(3).collect();
    assert!(extra.is_empty(), "{what} has keys that were never served: {extra:?}");
}

//! The expected rows of users, derived from the source's JSON without the code under test.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;

/// Values as text, by column; a time is in milliseconds since 1970.
pub type Row = BTreeMap<String, String>;

/// By key.
pub type Rows = BTreeMap<String, Row>;

/// Columns in order, and whether they hold a time.
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

pub fn rows(users: &[Value]) -> Result<Rows> {
    users.iter().map(|user| row(user).map(|row| (row["id"].clone(), row))).collect()
}

/// # Panics
/// At the first difference.
pub fn assert_same(what: &str, found: &Rows, expected: &Rows) {
    for (key, row) in expected {
        let Some(other) = found.get(key) else {
            panic!("{what} lacks {key} ({} of {} keys are present)", found.len(), expected.len())
        };
        for (column, value) in row {
            assert_eq!(other.get(column), Some(value), "{what}: {column} of {key}");
        }
    }
    let extra: Vec<_> = found.keys().filter(|key| !expected.contains_key(*key)).take(3).collect();
    assert!(extra.is_empty(), "{what} has keys that were never served: {extra:?}");
}

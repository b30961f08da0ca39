//! How far the runs have come in what the source has: `userpipeline.source_cursors`. It is advanced only by what has landed.

use std::{cmp::Ordering, collections::BTreeMap};

use tokio_postgres::{Client, GenericClient};
use userpipeline_api::StoredCursor;
use userpipeline_stores::StoreError;

use crate::{
    fetch::text_at,
    ledger::{Key, bookkeeping_failed},
    page::Item,
};

const READ: &str = "SELECT value FROM userpipeline.source_cursors WHERE pipeline = $1 AND arguments = $2";
const LOCK: &str = "SELECT value FROM userpipeline.source_cursors WHERE pipeline = $1 AND arguments = $2 FOR UPDATE";
const STORE: &str = "INSERT INTO userpipeline.source_cursors AS c (pipeline, arguments, value, run_id) VALUES ($1, $2, $3, $4) \
     ON CONFLICT (pipeline, arguments) DO UPDATE SET value = excluded.value, run_id = excluded.run_id, updated_at = now()";

/// A pipeline's cursor during a run.
#[derive(Clone, Debug)]
pub struct Cursor {
    spec: StoredCursor,
    /// The run's arguments, as JSON: whose cursor it is.
    arguments: String,
    /// What is stored, or where the first run begins.
    stored: String,
    /// What requests have.
    sent: String,
    /// How far what was fetched goes.
    reached: Option<String>,
}

impl Cursor {
    /// The cursor as the runs before have left it.
    pub async fn load(
        client: &Client,
        pipeline: &str,
        arguments: &BTreeMap<String, String>,
        spec: &StoredCursor,
    ) -> Result<Self, StoreError> {
        let arguments = serde_json::json!(arguments).to_string();
        let found = client.query_opt(READ, &[&pipeline, &arguments]).await.map_err(|e| failed(&e))?;
        let cursor = Self::at(spec, arguments, found.map(|row| row.get(0)));
        tracing::debug!(cursor = cursor.sent, "the cursor as runs before have left it");
        Ok(cursor)
    }

    fn at(spec: &StoredCursor, arguments: String, stored: Option<String>) -> Self {
        let stored = stored.unwrap_or_else(|| spec.initial.clone());
        Self {
            sent: stored.clone(),
            stored,
            arguments,
            spec: spec.clone(),
            reached: None,
        }
    }

    /// What requests have.
    pub fn sent(&self) -> &str {
        &self.sent
    }

    /// How far it has come by what was fetched, if that is anywhere else.
    fn reached(&self) -> Option<&str> {
        self.reached.as_deref().filter(|reached| *reached != self.sent)
    }

    /// How far it has come.
    pub fn value(&self) -> &str {
        self.reached.as_deref().unwrap_or(&self.sent)
    }

    /// What a run that has stored it says of it: not where it is, for that is of a record, or a secret of the source's. Only the table
    /// says it, and the log at debug.
    pub fn told(&self) -> &'static str {
        if self.value() == self.stored {
            "the cursor is where it was"
        } else {
            "the cursor has moved on, and is stored"
        }
    }

    /// A page was fetched: its items, and the answer that had them.
    pub fn saw(&mut self, items: &[Item], answer: &[u8]) -> Result<(), String> {
        if let Some(pointer) = &self.spec.from_answer {
            if let Some(value) = text_at(answer, pointer)? {
                self.reached = Some(value);
            }
            return Ok(());
        }
        let pointer = self.spec.from_items.as_deref().unwrap_or_default();
        let mut told = items.is_empty();
        // An item that has none, or is no JSON, does not say how far it is.
        for item in items {
            let Item::Json(item) = item else { continue };
            let Ok(Some(value)) = text_at(item.get().as_bytes(), pointer) else {
                continue;
            };
            told = true;
            if compare(&value, self.reached.as_deref().unwrap_or(&self.sent)) == Ordering::Greater {
                self.reached = Some(value);
            }
        }
        // Else each run would begin where this one did, and nobody would notice.
        told.then_some(())
            .ok_or_else(|| format!("none of the items has a text or a number at {pointer}"))
    }

    /// The next request is to have how far it has come; whether that is any further.
    pub fn go_on(&mut self) -> bool {
        let moved = self.reached().map(str::to_owned);
        if let Some(reached) = &moved {
            self.sent.clone_from(reached);
        }
        moved.is_some()
    }

    /// Stores how far it has come. Of two runs at the same time, the one that is further counts, where that can be told.
    pub async fn store(&self, client: &impl GenericClient, key: &Key) -> Result<(), StoreError> {
        let reached = self.value();
        if reached == self.stored {
            return Ok(());
        }
        if self.spec.from_items.is_some() {
            let stored = client
                .query_opt(LOCK, &[&key.pipeline, &self.arguments])
                .await
                .map_err(|e| failed(&e))?;
            let behind = stored.is_some_and(|row| compare(reached, row.get(0)) != Ordering::Greater);
            if behind {
                return Ok(());
            }
        }
        tracing::debug!(cursor = reached, "the cursor is to be stored");
        client
            .execute(STORE, &[&key.pipeline, &self.arguments, &reached, &key.run_id])
            .await
            .map(drop)
            .map_err(|e| failed(&e))
    }
}

/// What an error of the table means.
pub fn failed(e: &tokio_postgres::Error) -> StoreError {
    bookkeeping_failed("the cursor in userpipeline.source_cursors", e)
}

/// Which of two cursors is further: by number where both are numbers, else as text.
fn compare(one: &str, other: &str) -> Ordering {
    if let (Ok(one), Ok(other)) = (one.parse::<i128>(), other.parse::<i128>()) {
        return one.cmp(&other);
    }
    match (one.parse::<f64>(), other.parse::<f64>()) {
        (Ok(one), Ok(other)) => one.total_cmp(&other),
        _ => one.cmp(other),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{json, value::to_raw_value};

    use super::*;

    fn cursor(spec: serde_json::Value, stored: Option<&str>) -> Cursor {
        Cursor::at(&serde_json::from_value(spec).unwrap(), "{}".to_owned(), stored.map(str::to_owned))
    }

    fn items(values: &[serde_json::Value]) -> Vec<Item> {
        values
            .iter()
            .map(|value| Item::Json(to_raw_value(&json!({"at": value})).unwrap()))
            .collect()
    }

    /// A line that is no JSON.
    fn line(text: &str) -> Item {
        Item::Line(text.as_bytes().into())
    }

    #[test]
    fn cursors_are_compared_as_numbers_where_they_are() {
        for (one, other, wanted) in [
            ("10", "9", Ordering::Greater),
            ("9", "9.5", Ordering::Less),
            ("170141183460469231731687303715884105727", "3", Ordering::Greater),
            ("2026-01-02T00:00:00Z", "2026-01-01T23:59:59Z", Ordering::Greater),
            ("b", "10", Ordering::Greater),
            ("1", "", Ordering::Greater),
        ] {
            assert_eq!(compare(one, other), wanted, "{one} {other}");
        }
    }

    #[test]
    fn the_greatest_of_the_items_counts_and_never_one_behind_what_was_asked_for() {
        let mut cursor = cursor(json!({"fromItems": "/at", "initial": "5"}), None);
        assert_eq!((cursor.sent(), cursor.reached()), ("5", None));
        cursor.saw(&items(&[json!(3), json!(null)]), b"{}").unwrap();
        assert_eq!(cursor.reached(), None);
        assert!(cursor.saw(&items(&[json!(null), json!({})]), b"{}").is_err(), "nobody would notice");
        cursor.saw(&items(&[json!(9), json!(11), json!(10)]), b"{}").unwrap();
        assert_eq!(cursor.reached(), Some("11"));
        assert!(cursor.go_on());
        assert_eq!((cursor.sent(), cursor.reached()), ("11", None));
        // An answer that begins with the last item of the one before.
        cursor.saw(&items(&[json!(11)]), b"{}").unwrap();
        assert!(!cursor.go_on());
    }

    #[test]
    fn a_line_that_is_no_json_does_not_say_how_far_it_is() {
        let mut cursor = cursor(json!({"fromItems": "/at", "initial": "5"}), None);
        let good = Item::Json(to_raw_value(&json!({"at": 9})).unwrap());

        cursor.saw(&[line("z"), good, line("{\"at\": 99")], b"").unwrap();

        assert_eq!(cursor.reached(), Some("9"));
        assert!(cursor.saw(&[line("z")], b"").is_err(), "nobody would notice");
    }

    #[test]
    fn the_last_answer_counts_whatever_was_before() {
        let mut cursor = cursor(json!({"fromAnswer": "/next"}), Some("zz"));
        cursor.saw(&items(&[]), br#"{"next": "aa"}"#).unwrap();
        cursor.saw(&items(&[]), br#"{"next": null}"#).unwrap();
        assert_eq!((cursor.sent(), cursor.reached()), ("zz", Some("aa")));
        assert!(cursor.saw(&items(&[]), br#"{"next": {}}"#).is_err());
    }

    #[test]
    fn a_run_says_whether_the_cursor_has_moved_and_not_where_it_is() {
        for (found, says) in [("ann@example.com", "is where it was"), ("bea@example.com", "has moved on")] {
            let mut cursor = cursor(json!({"fromItems": "/at"}), Some("ann@example.com"));
            cursor.saw(&items(&[json!(found)]), b"{}").unwrap();
            // Also where each page moves it.
            for _ in 0..2 {
                assert!(cursor.told().contains(says) && !cursor.told().contains('@'), "{}", cursor.told());
                cursor.go_on();
            }
        }
    }
}

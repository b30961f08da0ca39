//! The cursor: how far a pipeline has read its source, in `userpipeline.source_cursors`. Only what has landed advances it.

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

/// The cursor of a pipeline during a run.
#[derive(Clone, Debug)]
pub struct Cursor {
    spec: StoredCursor,
    /// The run's arguments, as JSON. Runs with other arguments have another cursor.
    arguments: String,
    /// The value in the table, or the initial one.
    stored: String,
    /// The value in requests.
    sent: String,
    /// The value after the fetched pages.
    reached: Option<String>,
}

impl Cursor {
    /// The cursor as earlier runs stored it.
    pub async fn load(
        client: &Client,
        pipeline: &str,
        arguments: &BTreeMap<String, String>,
        spec: &StoredCursor,
    ) -> Result<Self, StoreError> {
        let arguments = serde_json::json!(arguments).to_string();
        let found = client.query_opt(READ, &[&pipeline, &arguments]).await.map_err(|e| failed(&e))?;
        let cursor = Self::at(spec, arguments, found.map(|row| row.get("value")));
        tracing::debug!(cursor = cursor.sent, "the cursor of this run");
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

    /// The value for requests.
    pub fn sent(&self) -> &str {
        &self.sent
    }

    /// The value after the fetched pages, if it differs from the one in requests.
    fn reached(&self) -> Option<&str> {
        self.reached.as_deref().filter(|reached| *reached != self.sent)
    }

    /// The newest value.
    pub fn value(&self) -> &str {
        self.reached.as_deref().unwrap_or(&self.sent)
    }

    /// For the message of a run. The value itself may be personal data or a secret of the source, so only the table and the log at
    /// level debug have it.
    pub fn summary(&self) -> &'static str {
        if self.value() == self.stored {
            "the cursor did not change"
        } else {
            "the cursor advanced"
        }
    }

    /// Advances by a fetched page: its items, and the response that contained them.
    pub fn advance(&mut self, items: &[Item], body: &[u8]) -> Result<(), String> {
        if let Some(pointer) = &self.spec.from_answer {
            if let Some(value) = text_at(body, pointer)? {
                self.reached = Some(value);
            }
            return Ok(());
        }
        let pointer = self.spec.from_items.as_deref().unwrap_or_default();
        let mut found = items.is_empty();
        // Items without a value, and lines that are not JSON, are skipped.
        for item in items {
            let Item::Json(item) = item else { continue };
            let Ok(Some(value)) = text_at(item.get().as_bytes(), pointer) else {
                continue;
            };
            found = true;
            if compare(&value, self.reached.as_deref().unwrap_or(&self.sent)) == Ordering::Greater {
                self.reached = Some(value);
            }
        }
        // Otherwise every run would silently restart at the same place.
        found
            .then_some(())
            .ok_or_else(|| format!("no item of the page has a text or a number at {pointer} (fromItems)"))
    }

    /// Uses the newest value in the next request. Returns whether it differs.
    pub fn update_request(&mut self) -> bool {
        let advanced = self.reached().map(str::to_owned);
        if let Some(reached) = &advanced {
            self.sent.clone_from(reached);
        }
        advanced.is_some()
    }

    /// Stores the newest value. Of two concurrent runs, the one with the greater value wins, where values can be compared.
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
            let behind = stored.is_some_and(|row| compare(reached, row.get("value")) != Ordering::Greater);
            if behind {
                return Ok(());
            }
        }
        tracing::debug!(cursor = reached, "storing the cursor");
        client
            .execute(STORE, &[&key.pipeline, &self.arguments, &reached, &key.run_id])
            .await
            .map(drop)
            .map_err(|e| failed(&e))
    }
}

/// Explains an error of the cursor's table.
pub fn failed(e: &tokio_postgres::Error) -> StoreError {
    bookkeeping_failed("the cursor in userpipeline.source_cursors", e)
}

/// Compares two cursors: as numbers if both are numbers, otherwise as text.
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
    use serde_json::json;

    use super::*;
    use crate::raw_item::RawItem;

    fn cursor(spec: serde_json::Value, stored: Option<&str>) -> Cursor {
        Cursor::at(&serde_json::from_value(spec).unwrap(), "{}".to_owned(), stored.map(str::to_owned))
    }

    fn items(values: &[serde_json::Value]) -> Vec<Item> {
        values
            .iter()
            .map(|value| Item::Json(RawItem::own(json!({"at": value}).to_string())))
            .collect()
    }

    /// A line that is not JSON.
    fn line(text: &str) -> Item {
        Item::InvalidLine(text.as_bytes().into())
    }

    #[test]
    fn cursors_are_compared_as_numbers_if_both_are() {
        for (one, other, expected) in [
            ("10", "9", Ordering::Greater),
            ("9", "9.5", Ordering::Less),
            ("170141183460469231731687303715884105727", "3", Ordering::Greater),
            ("2026-01-02T00:00:00Z", "2026-01-01T23:59:59Z", Ordering::Greater),
            ("b", "10", Ordering::Greater),
            ("1", "", Ordering::Greater),
        ] {
            assert_eq!(compare(one, other), expected, "{one} {other}");
        }
    }

    #[test]
    fn the_greatest_value_of_the_items_wins_unless_it_is_below_the_requested_one() {
        let mut cursor = cursor(json!({"fromItems": "/at", "initial": "5"}), None);
        assert_eq!((cursor.sent(), cursor.reached()), ("5", None));
        cursor.advance(&items(&[json!(3), json!(null)]), b"{}").unwrap();
        assert_eq!(cursor.reached(), None);
        assert!(
            cursor.advance(&items(&[json!(null), json!({})]), b"{}").is_err(),
            "it would go unnoticed"
        );
        cursor.advance(&items(&[json!(9), json!(11), json!(10)]), b"{}").unwrap();
        assert_eq!(cursor.reached(), Some("11"));
        assert!(cursor.update_request());
        assert_eq!((cursor.sent(), cursor.reached()), ("11", None));
        // A page that starts with the last item of the page before.
        cursor.advance(&items(&[json!(11)]), b"{}").unwrap();
        assert!(!cursor.update_request());
    }

    #[test]
    fn a_line_that_is_not_json_does_not_advance_the_cursor() {
        let mut cursor = cursor(json!({"fromItems": "/at", "initial": "5"}), None);
        let good = Item::Json(RawItem::own(json!({"at": 9}).to_string()));

        cursor.advance(&[line("z"), good, line("{\"at\": 99")], b"").unwrap();

        assert_eq!(cursor.reached(), Some("9"));
        assert!(cursor.advance(&[line("z")], b"").is_err(), "it would go unnoticed");
    }

    #[test]
    fn the_last_response_wins() {
        let mut cursor = cursor(json!({"fromAnswer": "/next"}), Some("zz"));
        cursor.advance(&items(&[]), br#"{"next": "aa"}"#).unwrap();
        cursor.advance(&items(&[]), br#"{"next": null}"#).unwrap();
        assert_eq!((cursor.sent(), cursor.reached()), ("zz", Some("aa")));
        assert!(cursor.advance(&items(&[]), br#"{"next": {}}"#).is_err());
    }

    #[test]
    fn the_summary_has_whether_the_cursor_advanced_and_not_its_value() {
        for (found, expected) in [("ann@example.com", "did not change"), ("bea@example.com", "advanced")] {
            let mut cursor = cursor(json!({"fromItems": "/at"}), Some("ann@example.com"));
            cursor.advance(&items(&[json!(found)]), b"{}").unwrap();
            // Also if each page advances it.
            for _ in 0..2 {
                assert!(
                    cursor.summary().contains(expected) && !cursor.summary().contains('@'),
                    "{}",
                    cursor.summary()
                );
                cursor.update_request();
            }
        }
    }
}

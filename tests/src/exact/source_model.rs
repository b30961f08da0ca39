//! The items of a trial. The seed determines the content of every revision, so the expected rows need no copy of what was served.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Mutex, MutexGuard, PoisonError},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{declared::Row, random::SplitMix64};

pub const KEYS: usize = 4000;
/// One on each of the first pages.
const INVALID_ITEMS: usize = 20;
/// Items.
pub const PAGE: usize = 200;
/// Every fifth revision of a key deletes its record.
const DELETED_EVERY: i64 = 5;

/// The characters of `contact` that its mask leaves.
const CONTACT: usize = 4;

/// A record that is not `ok` passes the filter above this level. About one in five does not pass; of some the level is null.
const PASSING_LEVEL: f64 = 1e8;

const TEXTS: [&str; 8] = ["", "plain", "日本語", "العربية", "👩‍👩‍👧", "e\u{301}", "'; --", "\\N"];

/// `spec.record` of the pipeline.
pub fn record() -> Value {
    let filter = format!("ok || level > {PASSING_LEVEL:?}");
    json!({"key": ["device", "seq"], "clusterBy": ["seq"], "orderBy": "revision", "deleteWhen": "has(item.gone)", "where": filter, "fields": [
        {"name": "device", "type": "string", "from": "/device"},
        {"name": "seq", "type": "int", "from": "/seq"},
        {"name": "revision", "type": "long", "from": "/revision"},
        {"name": "name", "type": "string", "from": "/name"},
        {"name": "level", "type": "double", "from": "/level", "optional": true},
        {"name": "at", "type": "timestamp", "from": "/at", "epoch": "Milliseconds"},
        {"name": "ok", "type": "boolean", "from": "/ok"},
        {"name": "ref", "type": "uuid", "from": "/ref"},
        {"name": "blob", "type": "bytes", "from": "/blob"},
        {"name": "extra", "type": "json", "from": "/extra", "optional": true},
        {"name": "contact", "type": "string", "from": "/contact", "mask": {"with": "Truncate", "length": CONTACT}},
    ]})
}

/// An item as it is stored, beside its record.
fn stored_item(item: &Value) -> String {
    let mut item = item.clone();
    if let Some(contact) = item.get_mut("contact") {
        *contact = json!("***");
    }
    item.to_string()
}

/// `spec.aggregates` of the pipeline.
pub fn aggregates() -> Value {
    json!([
        {"name": "by_device", "groupBy": ["device"], "values": [
            {"name": "records", "count": {}}, {"name": "names", "countDistinct": "name"}, {"name": "revisions", "sum": "revision"},
            {"name": "least", "min": "level"}, {"name": "newest", "max": "revision"},
        ]},
        {"name": "by_day", "groupBy": ["ok"], "window": {"field": "at", "every": "24h", "timeZone": "Europe/Berlin"}, "values": [
            {"name": "records", "count": {}}, {"name": "average", "avg": "seq"}, {"name": "last", "max": "at"},
        ], "sinks": {"cassandra": {}}},
    ])
}

struct Inner {
    /// The current revision of each key, from 1.
    revisions: Vec<i64>,
    /// The newest served revision of each key.
    served: Vec<i64>,
    /// By their JSON as it is stored.
    invalid_items: BTreeMap<String, InvalidItem>,
    random: SplitMix64,
}

/// A served item that must be rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidItem {
    pub field: &'static str,
    /// The expected error class.
    pub class: &'static str,
    /// Times.
    pub served: usize,
}

pub struct SourceModel {
    seed: u64,
    inner: Mutex<Inner>,
}

/// The expected record of a key in a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    pub device: String,
    pub seq: i64,
    pub revision: i64,
    /// `None`: deleted.
    pub landed: Option<Row>,
    /// `None`: deleted, or it does not pass the filter.
    pub row: Option<Row>,
}

impl Revision {
    /// The key of its message.
    pub fn key(&self) -> String {
        json!([self.device, self.seq]).to_string()
    }

    pub const fn is_filtered(&self) -> bool {
        self.landed.is_some() && self.row.is_none()
    }
}

impl SourceModel {
    /// Starts with the first revision of every key.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            inner: Mutex::new(Inner {
                revisions: vec![1; KEYS],
                served: vec![0; KEYS],
                invalid_items: BTreeMap::new(),
                random: SplitMix64::new(seed),
            }),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a revision to this many random keys.
    pub fn revise(&self, keys: usize) {
        let mut inner = self.inner();
        for _ in 0..keys {
            let key = inner.random.index(KEYS);
            inner.revisions[key] += 1;
        }
    }

    pub const fn is_after_the_last(page: usize) -> bool {
        page.saturating_sub(1) * PAGE >= KEYS
    }

    /// The items of a page. The first page is 1; a page after the last one is empty. `stale`: earlier revisions.
    pub fn page(&self, page: usize, stale: bool) -> Vec<Value> {
        let mut inner = self.inner();
        let from = page.saturating_sub(1) * PAGE;
        let mut items = Vec::with_capacity(PAGE + 1);
        for key in from..(from + PAGE).min(KEYS) {
            let back = if stale {
                i64::try_from(inner.random.index(4)).unwrap_or(0)
            } else {
                0
            };
            let revision = (inner.revisions[key] - back).max(1);
            inner.served[key] = inner.served[key].max(revision);
            items.push(self.item(key, revision));
        }
        if !items.is_empty() && page <= INVALID_ITEMS {
            // No device, so no key; or a text that no store can hold.
            let (key, n) = (page, inner.random.next_u64() % 1000);
            let mut item = self.item(key, 1);
            let (field, class) = if key.is_multiple_of(2) {
                item["device"] = Value::Null;
                ("device", "Missing")
            } else {
                item["name"] = json!("nothing\0holds this");
                ("name", "ValueInvalid")
            };
            item["bad"] = json!(n);
            let served = 0;
            inner
                .invalid_items
                .entry(stored_item(&item))
                .or_insert(InvalidItem { field, class, served })
                .served += 1;
            items.push(item);
        }
        items
    }

    /// The served JSON.
    fn item(&self, key: usize, revision: i64) -> Value {
        let (device, seq) = name_of(key);
        if revision % DELETED_EVERY == 0 {
            return json!({"device": device, "seq": seq, "revision": revision, "gone": true});
        }
        let mut random = self.random(key, revision);
        let level = random.next_u64();
        let text = TEXTS[random.index(TEXTS.len())];
        json!({
            "device": device, "seq": seq, "revision": revision,
            "name": format!("{text} {key}.{revision}"),
            "level": if level.is_multiple_of(3) { Value::Null } else { json!(f64::from(u32::try_from(level >> 32).unwrap_or(0)) / 7.0) },
            "at": i64::try_from(random.next_u64() % 4_000_000_000_000).unwrap_or(0),
            "ok": random.next_u64().is_multiple_of(2),
            "ref": uuid::Uuid::from_u64_pair(random.next_u64(), random.next_u64()).to_string(),
            "blob": STANDARD.encode(random.next_u64().to_be_bytes()),
            "extra": if random.next_u64().is_multiple_of(4) { Value::Null } else { json!({"n": [revision, null], text: key}) },
            "contact": format!("{text}{key}.{revision}"),
        })
    }

    pub fn revision(&self, key: usize, revision: i64) -> Revision {
        let (device, seq) = name_of(key);
        let item = self.item(key, revision);
        let landed = (revision % DELETED_EVERY != 0).then(|| row(&item));
        Revision {
            device,
            seq,
            revision,
            row: landed.clone().filter(|_| passes(&item)),
            landed,
        }
    }

    /// The expected records once everything that was served has arrived.
    pub fn last(&self) -> Vec<Revision> {
        let served = self.inner().served.clone();
        let all = served.into_iter().enumerate().filter(|(_, revision)| *revision > 0);
        all.map(|(key, revision)| self.revision(key, revision)).collect()
    }

    /// The inverse of [`name_of`].
    pub fn key(&self, device: &str, seq: i64) -> Option<usize> {
        let key = usize::try_from(seq).ok()?;
        (key < KEYS && name_of(key).0 == device).then_some(key)
    }

    /// The served items that must be rejected, by their JSON as it is stored.
    pub fn invalid_items(&self) -> BTreeMap<String, InvalidItem> {
        self.inner().invalid_items.clone()
    }

    fn random(&self, key: usize, revision: i64) -> SplitMix64 {
        SplitMix64::new(self.seed ^ (key as u64).wrapping_mul(0x9e37_79b9) ^ revision.unsigned_abs().wrapping_mul(0xbf58_476d_1ce4_e5b9))
    }
}

fn name_of(key: usize) -> (String, i64) {
    (format!("dévice {}", key % 37), i64::try_from(key).unwrap_or_default())
}

/// Whether an item's record passes the filter.
fn passes(item: &Value) -> bool {
    item["ok"] == true || item["level"].as_f64().is_some_and(|level| level > PASSING_LEVEL)
}

/// The row of an item, in the form in which [`crate::declared`] reads rows from the stores.
fn row(item: &Value) -> Row {
    let fields = crate::declared::fields(&record());
    let cell = |(name, field_type): (String, String)| {
        let text = match &item[&name] {
            Value::String(text) if name == "contact" => Some(text.chars().take(CONTACT).collect()),
            Value::String(text) if field_type == "bytes" => Some(hexadecimal(&STANDARD.decode(text).unwrap_or_default())),
            value => crate::declared::text(&field_type, value).unwrap_or_default(),
        };
        (name, text)
    };
    fields.into_iter().map(cell).collect()
}

pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use userpipeline_api::RecordSpec;
    use userpipeline_record::{Mapped, RecordSchema};

    use super::*;

    #[test]
    fn a_revision_is_stored_filtered_or_deleted_as_the_record_says() {
        let (model, spec) = (SourceModel::new(7), serde_json::from_value::<RecordSpec>(record()).unwrap());
        let schema = RecordSchema::read(Some(&spec)).unwrap();
        let mut filtered = 0;
        for (key, number) in (0..400).flat_map(|key| (1..6).map(move |number| (key, number))) {
            let revision = model.revision(key, number);
            let item = model.item(key, number);
            let expected = match (&revision.landed, &revision.row) {
                (Some(_), Some(_)) => "stored",
                (Some(_), None) => "filtered",
                (None, _) => "deleted",
            };
            let found = match schema.map(&item, Some(item.to_string().as_bytes())).unwrap() {
                Mapped::Upsert(_) => "stored",
                Mapped::Filtered(_) => "filtered",
                Mapped::Delete(_) => "deleted",
            };
            assert_eq!(found, expected, "{item}");
            filtered += usize::from(found == "filtered");
        }
        assert!((200..800).contains(&filtered), "{filtered} of 2000");
    }

    #[test]
    fn only_invalid_items_are_rejected_and_for_the_expected_reason() {
        let (model, spec) = (SourceModel::new(7), serde_json::from_value::<RecordSpec>(record()).unwrap());
        let schema = RecordSchema::read(Some(&spec)).unwrap();
        for page in (1..=INVALID_ITEMS).chain([1]) {
            for item in model.page(page, false) {
                let text = item.to_string();
                let rejected = schema.map(&item, Some(text.as_bytes())).err().map(|why| (why.field, why.class));
                let expected = model
                    .invalid_items()
                    .get(&stored_item(&item))
                    .map(|item| (item.field.to_owned(), item.class));
                assert_eq!(rejected, expected, "{text}");
            }
        }
        assert_eq!(
            model.invalid_items().values().map(|item| item.served).sum::<usize>(),
            INVALID_ITEMS + 1
        );
    }
}

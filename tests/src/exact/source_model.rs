//! The items of a trial: what each holds in each of its revisions follows from the seed, so it is known without being kept.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Mutex, MutexGuard, PoisonError},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{declared::Row, dice::Dice};

/// So many keys there are.
pub const KEYS: usize = 4000;
/// So many items beside them are never records.
const BAD: usize = 20;
/// So many items are on a page.
pub const PAGE: usize = 200;
/// Of a key's revisions, each fifth says that the record is no more.
const GONE: i64 = 5;

const TEXTS: [&str; 8] = ["", "plain", "日本語", "العربية", "👩‍👩‍👧", "e\u{301}", "'; --", "\\N"];

/// The record that the trial's pipeline declares.
pub fn record() -> Value {
    json!({"key": ["device", "seq"], "clusterBy": ["seq"], "orderBy": "revision", "deleteWhen": "has(item.gone)", "fields": [
        {"name": "device", "type": "string", "from": "/device"},
        {"name": "seq", "type": "int", "from": "/seq"},
        {"name": "revision", "type": "long", "from": "/revision"},
        {"name": "name", "type": "string", "from": "/name"},
        {"name": "level", "type": "double", "from": "/level", "optional": true},
        {"name": "at", "type": "timestamp", "from": "/at"},
        {"name": "ok", "type": "boolean", "from": "/ok"},
        {"name": "ref", "type": "uuid", "from": "/ref"},
        {"name": "blob", "type": "bytes", "from": "/blob"},
        {"name": "extra", "type": "json", "from": "/extra", "optional": true},
    ]})
}

struct Inner {
    /// The revision of each key, from 1.
    revisions: Vec<i64>,
    /// The newest one of each that was served.
    served: Vec<i64>,
    /// What was served and is no record.
    bad: BTreeMap<String, Bad>,
    dice: Dice,
}

/// An item that is no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bad {
    /// The field at fault.
    pub field: &'static str,
    /// The word for what is wrong with it.
    pub class: &'static str,
    /// How often it was served.
    pub served: usize,
}

/// The items of a trial.
pub struct Book {
    seed: u64,
    inner: Mutex<Inner>,
}

/// What a key's record must be in a revision: its fields, or nothing where it is no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// The device, the first part of the key.
    pub device: String,
    /// The second part.
    pub seq: i64,
    /// Which one.
    pub revision: i64,
    /// The fields, unless the record is no more.
    pub row: Option<Row>,
}

impl Revision {
    /// The key as it is on the topic.
    pub fn key(&self) -> String {
        json!([self.device, self.seq]).to_string()
    }
}

impl Book {
    /// The first revision of everything.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            inner: Mutex::new(Inner {
                revisions: vec![1; KEYS],
                served: vec![0; KEYS],
                bad: BTreeMap::new(),
                dice: Dice::new(seed),
            }),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes new revisions of so many keys.
    pub fn revise(&self, keys: usize) {
        let mut inner = self.inner();
        for _ in 0..keys {
            let key = inner.dice.index(KEYS);
            inner.revisions[key] += 1;
        }
    }

    /// Whether a page is behind the last one.
    pub const fn is_behind(page: usize) -> bool {
        page.saturating_sub(1) * PAGE >= KEYS
    }

    /// The items of a page, counted from 1: none behind the last one. `stale`: as they were some revisions ago.
    pub fn page(&self, page: usize, stale: bool) -> Vec<Value> {
        let mut inner = self.inner();
        let from = page.saturating_sub(1) * PAGE;
        let mut items = Vec::with_capacity(PAGE + 1);
        for key in from..(from + PAGE).min(KEYS) {
            let back = if stale {
                i64::try_from(inner.dice.index(4)).unwrap_or(0)
            } else {
                0
            };
            let revision = (inner.revisions[key] - back).max(1);
            inner.served[key] = inner.served[key].max(revision);
            items.push(self.item(key, revision));
        }
        if !items.is_empty() && page <= BAD {
            // No device, so no key; or a text that no store could hold.
            let (bad, n) = (page, inner.dice.roll() % 1000);
            let mut item = self.item(bad, 1);
            let (field, class) = if bad.is_multiple_of(2) {
                item["device"] = Value::Null;
                ("device", "Missing")
            } else {
                item["name"] = json!("nothing\0holds this");
                ("name", "ValueInvalid")
            };
            item["bad"] = json!(n);
            let served = 0;
            inner.bad.entry(item.to_string()).or_insert(Bad { field, class, served }).served += 1;
            items.push(item);
        }
        items
    }

    /// An item in one of its revisions, as it is served.
    fn item(&self, key: usize, revision: i64) -> Value {
        let (device, seq) = name_of(key);
        if revision % GONE == 0 {
            return json!({"device": device, "seq": seq, "revision": revision, "gone": true});
        }
        let mut dice = self.dice(key, revision);
        let level = dice.roll();
        let text = TEXTS[dice.index(TEXTS.len())];
        json!({
            "device": device, "seq": seq, "revision": revision,
            "name": format!("{text} {key}.{revision}"),
            "level": if level.is_multiple_of(3) { Value::Null } else { json!(f64::from(u32::try_from(level >> 32).unwrap_or(0)) / 7.0) },
            "at": i64::try_from(dice.roll() % 4_000_000_000_000).unwrap_or(0),
            "ok": dice.roll().is_multiple_of(2),
            "ref": uuid::Uuid::from_u64_pair(dice.roll(), dice.roll()).to_string(),
            "blob": STANDARD.encode(dice.roll().to_be_bytes()),
            "extra": if dice.roll().is_multiple_of(4) { Value::Null } else { json!({"n": [revision, null], text: key}) },
        })
    }

    /// What a record must be in one of its revisions.
    pub fn revision(&self, key: usize, revision: i64) -> Revision {
        let (device, seq) = name_of(key);
        let item = self.item(key, revision);
        let row = (revision % GONE != 0).then(|| row(&item));
        Revision {
            device,
            seq,
            revision,
            row,
        }
    }

    /// What each record must be when all that was served has arrived.
    pub fn last(&self) -> Vec<Revision> {
        let served = self.inner().served.clone();
        let all = served.into_iter().enumerate().filter(|(_, revision)| *revision > 0);
        all.map(|(key, revision)| self.revision(key, revision)).collect()
    }

    /// Which key a record's name is.
    pub fn key(&self, device: &str, seq: i64) -> Option<usize> {
        let key = usize::try_from(seq).ok()?;
        (key < KEYS && name_of(key).0 == device).then_some(key)
    }

    /// The items served that are no records, as JSON.
    pub fn bad(&self) -> BTreeMap<String, Bad> {
        self.inner().bad.clone()
    }

    fn dice(&self, key: usize, revision: i64) -> Dice {
        Dice::new(self.seed ^ (key as u64).wrapping_mul(0x9e37_79b9) ^ revision.unsigned_abs().wrapping_mul(0xbf58_476d_1ce4_e5b9))
    }
}

fn name_of(key: usize) -> (String, i64) {
    (format!("dévice {}", key % 37), i64::try_from(key).unwrap_or_default())
}

/// The row of an item: a text for each field, as [`crate::declared`] reads them from the stores.
fn row(item: &Value) -> Row {
    let fields = crate::declared::fields(&record());
    let cell = |(name, field_type): (String, String)| {
        let text = match &item[&name] {
            Value::String(text) if field_type == "bytes" => Some(hexadecimal(&STANDARD.decode(text).unwrap_or_default())),
            value => crate::declared::text(&field_type, value).unwrap_or_default(),
        };
        (name, text)
    };
    fields.into_iter().map(cell).collect()
}

/// Bytes as two digits each.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use userpipeline_api::RecordSpec;
    use userpipeline_record::RecordSchema;

    use super::*;

    #[test]
    fn what_is_planted_is_refused_for_the_reason_that_the_book_knows_and_nothing_else_is() {
        let (book, spec) = (Book::new(7), serde_json::from_value::<RecordSpec>(record()).unwrap());
        let schema = RecordSchema::read(Some(&spec)).unwrap();
        for page in (1..=BAD).chain([1]) {
            for item in book.page(page, false) {
                let text = item.to_string();
                let refused = schema.map(&item, Some(text.as_bytes())).err().map(|why| (why.field, why.class));
                let planted = book.bad().get(&text).map(|bad| (bad.field.to_owned(), bad.class));
                assert_eq!(refused, planted, "{text}");
            }
        }
        assert_eq!(book.bad().values().map(|bad| bad.served).sum::<usize>(), BAD + 1);
    }
}

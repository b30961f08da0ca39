//! What a source served, and which of it the rule names.

use std::collections::BTreeMap;

use ingest_job::{
    page::{Item, MappedPage},
    raw_item::RawItem,
};
use serde_json::{Value, json};
use userpipeline_record::{Rank, RawForm, RecordSchema};

/// An item: its key, the value of `orderBy` in microseconds after a second, its content, and whether it deletes the record.
#[derive(Clone, Debug)]
pub struct Served {
    pub key: i64,
    pub order: i64,
    pub content: String,
    pub deleted: bool,
}

/// A response, with the number of its request.
#[derive(Clone, Debug)]
pub struct Response {
    pub request: i64,
    pub items: Vec<Served>,
}

/// The content of records that do not pass the filter.
pub const OUT: &str = "out";

pub fn schema() -> RecordSchema {
    declared(&json!({"orderBy": "at"}))
}

/// The same with a filter.
pub fn filtered(is_ordered: bool) -> RecordSchema {
    let filter = format!("content != '{OUT}'");
    declared(&if is_ordered {
        json!({"orderBy": "at", "where": filter})
    } else {
        json!({"where": filter})
    })
}

fn declared(more: &Value) -> RecordSchema {
    let mut declared = json!({"key": ["id"], "deleteWhen": "has(item.gone)", "fields": [
        {"name": "id", "type": "long", "from": "/id"},
        {"name": "at", "type": "timestamp", "from": "/at"},
        {"name": "content", "type": "string", "from": "/content", "optional": true},
    ]});
    for (name, value) in more.as_object().unwrap() {
        declared[name] = value.clone();
    }
    RecordSchema::of(Some(&serde_json::from_value(declared).unwrap())).unwrap()
}

impl Served {
    fn item(&self) -> Value {
        let at = format!("2024-01-02T10:11:12.{:06}Z", self.order);
        let mut item = json!({"id": self.key, "at": at, "content": self.content});
        if self.deleted {
            item["gone"] = json!(true);
        }
        item
    }

    /// The content that a store has; none of a deleted record.
    pub fn stored(&self) -> Option<String> {
        (!self.deleted).then(|| self.content.clone())
    }
}

impl Response {
    pub fn page(&self, schema: &RecordSchema) -> MappedPage {
        let raw = |served: &Served| Item::Json(RawItem::own(served.item().to_string()));
        let page = MappedPage::map(self.items.iter().map(raw).collect(), i64::MAX, schema, 10_000, &RawForm::Keep);
        assert!(page.rejects.is_empty(), "{:?}", page.rejects);
        page
    }
}

/// The number of a request, and a position in its response.
type Arrival = (i64, usize);

/// The content of each record: the item with the greatest `orderBy`; of equal ones a deletion, otherwise the one that was requested
/// later, or comes later in a response.
pub fn expected(responses: &[Response]) -> BTreeMap<i64, Option<String>> {
    let mut newest: BTreeMap<i64, (Rank<Arrival>, Option<String>)> = BTreeMap::new();
    for response in responses {
        for (position, served) in response.items.iter().enumerate() {
            let rank = Rank {
                order: served.order,
                deleted: served.deleted,
                arrival: (response.request, position),
            };
            let best = newest.entry(served.key).or_insert((rank, served.stored()));
            if rank > best.0 {
                *best = (rank, served.stored());
            }
        }
    }
    newest.into_iter().map(|(key, (_, content))| (key, content)).collect()
}

//! A page of items, cut to the run's limit and mapped to records.

use serde::{Deserialize, Deserializer};
use serde_json::{
    Value as Json,
    value::{RawValue, to_raw_value},
};
use userpipeline_record::{Mapped, Record, RecordSchema, check_weight};

/// The longest reason kept with a reject.
const MAX_REASON: usize = 500;
/// The class of what does not read.
const UNREADABLE: &str = "Unreadable";

/// An item as it was served.
pub type Raw = Box<RawValue>;

/// An item of an answer, whatever it is.
#[derive(Debug)]
pub enum Item {
    /// JSON.
    Json(Raw),
    /// A line that is no JSON, without the white space around it; it may be no UTF-8 either.
    Line(Box<[u8]>),
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        Raw::deserialize(json).map(Self::Json)
    }
}

/// An item that is no record.
#[derive(Debug)]
pub struct Rejected {
    /// The field at fault; empty where it is the item as a whole.
    pub field: String,
    /// A CamelCase word for why.
    pub class: &'static str,
    /// Why.
    pub reason: String,
    /// The item.
    pub raw: Raw,
}

/// An item that is a record, or tells that one is no more.
#[derive(Debug)]
pub struct Accepted {
    /// The record; of one that is no more, its key.
    pub record: Record,
    /// Whether it is no more.
    pub deleted: bool,
    /// The item.
    pub raw: Raw,
}

/// A page, mapped.
#[derive(Debug, Default)]
pub struct Page {
    /// Its records.
    pub records: Vec<Accepted>,
    /// Its other items.
    pub rejects: Vec<Rejected>,
}

impl Page {
    /// Maps up to `allowance` items; the others are left to a later run, or cut the run short where the source has pages. Records of more
    /// than `max_record` bytes are rejected.
    pub fn map(mut items: Vec<Item>, allowance: i64, schema: &RecordSchema, max_record: usize) -> Self {
        items.truncate(usize::try_from(allowance).unwrap_or(0));
        let mut page = Self::default();
        for item in items {
            let raw = match item {
                Item::Json(raw) => raw,
                Item::Line(line) => {
                    page.rejects.push(no_json(&line));
                    continue;
                }
            };
            match record(&raw, schema, max_record) {
                Ok((record, deleted)) => page.records.push(Accepted { record, deleted, raw }),
                Err(Fault {
                    field,
                    class,
                    reason,
                    raw: instead,
                }) => {
                    page.rejects.push(Rejected {
                        field,
                        class,
                        reason: storable(&reason),
                        raw: instead.unwrap_or(raw),
                    });
                }
            }
        }
        page
    }

    /// How many bytes its items have.
    pub fn bytes(&self) -> usize {
        let accepted = self.records.iter().map(|record| record.raw.get().len());
        accepted.chain(self.rejects.iter().map(|reject| reject.raw.get().len())).sum()
    }

    /// How many items it has.
    pub fn items(&self) -> usize {
        self.records.len() + self.rejects.len()
    }
}

struct Fault {
    field: String,
    class: &'static str,
    reason: String,
    /// What is kept instead of the item, where that cannot be stored.
    raw: Option<Raw>,
}

/// The record, and whether it is no more.
fn record(raw: &RawValue, schema: &RecordSchema, max_record: usize) -> Result<(Record, bool), Fault> {
    // What has not been read may be too deep, or have half of a surrogate pair, though it is JSON by its grammar. PostgreSQL may refuse
    // that as well, and with it the whole page: it is kept as a text.
    let as_text = || to_raw_value(raw.get()).ok();
    check_weight(raw.get().as_bytes()).map_err(|reason| Fault {
        field: String::new(),
        class: "TooLarge",
        reason,
        raw: as_text(),
    })?;
    let item: Json = serde_json::from_str(raw.get()).map_err(|e| Fault {
        field: String::new(),
        class: UNREADABLE,
        reason: does_not_read(&e),
        raw: as_text(),
    })?;
    let said = schema.map(&item, Some(raw.get().as_bytes())).map_err(|reject| Fault {
        reason: format!("from {}: {}", reject.from, reject.reason),
        class: reject.class,
        field: reject.field,
        raw: None,
    })?;
    let (record, deleted) = match said {
        Mapped::Upsert(record) => (record, false),
        Mapped::Delete(record) => (record, true),
    };
    let size = record.size();
    if size > max_record {
        return Err(Fault {
            field: String::new(),
            class: "TooLarge",
            reason: format!(
                "the record has about {size} bytes; at most {max_record} fit a message, of max.message.bytes in spec.kafka.topic.config"
            ),
            raw: None,
        });
    }
    Ok((record, deleted))
}

/// A line that is no JSON: kept as a text, in which bytes that are no UTF-8 are replaced.
fn no_json(line: &[u8]) -> Rejected {
    let e = serde_json::from_slice::<&RawValue>(line).err();
    Rejected {
        field: String::new(),
        class: UNREADABLE,
        reason: e.as_ref().map(does_not_read).unwrap_or_default(),
        raw: to_raw_value(&String::from_utf8_lossy(line)).unwrap_or_else(|_| RawValue::NULL.to_owned()),
    }
}

/// By position, never by content.
fn does_not_read(e: &serde_json::Error) -> String {
    format!("the item does not read: {e}")
}

/// A reason may quote the item: without NUL, which PostgreSQL's text cannot hold, and of bounded length.
fn storable(reason: &str) -> String {
    reason
        .chars()
        .take(MAX_REASON)
        .map(|c| if c == '\0' { '\u{fffd}' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Room for any record but one that is made to be too large.
    const ENOUGH: usize = 10_000;

    fn user() -> Json {
        json!({
            "gender": "female", "email": "a@example.com", "phone": "1", "picture": {"medium": "http://x"},
            "name": {"first": "Ann", "last": "Lee"},
            "location": {"street": {"number": 5, "name": "Elm"}, "city": "C", "state": "S", "country": "L", "postcode": 12345},
            "login": {"uuid": "6c9f9e6c-0000-4000-8000-000000000001", "username": "ann"},
            "dob": {"date": "1990-01-02T03:04:05.678Z"}, "registered": {"date": "2020-01-02T03:04:05.678Z"},
        })
    }

    fn raw(text: &(impl ToString + ?Sized)) -> Raw {
        RawValue::from_string(text.to_string()).unwrap()
    }

    fn item(text: &(impl ToString + ?Sized)) -> Item {
        Item::Json(raw(text))
    }

    fn with(pointer: &str, value: Json) -> Raw {
        let mut user = user();
        *user.pointer_mut(pointer).unwrap() = value;
        raw(&user)
    }

    #[test]
    fn a_page_is_cut_at_the_limit() {
        for (items, allowance, taken) in [(5, 10, 5), (5, 5, 5), (5, 3, 3), (5, 0, 0), (5, -1, 0), (0, 10, 0)] {
            let page = Page::map(
                (0..items).map(|_| item(&user())).collect(),
                allowance,
                &RecordSchema::user(),
                ENOUGH,
            );
            assert_eq!((page.items(), page.rejects.len()), (taken, 0), "{items} {allowance}");
        }
    }

    #[test]
    fn the_item_is_kept_as_it_was_served() {
        let text = user()
            .to_string()
            .replace("12345", "12345.10")
            .replace(':', " : ")
            .replace("http : ", "http:")
            .replace("03 : 04 : 05", "03:04:05");
        let page = Page::map(vec![item(&text)], 1, &RecordSchema::user(), ENOUGH);
        assert_eq!(page.records[0].raw.get(), text);
    }

    #[test]
    fn what_is_no_record_is_kept_with_its_reason() {
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        for (item, field, says) in [
            (raw("17"), "id", "missing"),
            (with("/login/uuid", json!("x\0")), "id", "/login/uuid"),
            (with("/name/first", json!("x\0y")), "first_name", "NUL"),
            (with("/phone", json!("x".repeat(ENOUGH))), "", "bytes"),
            (raw(&deep), "", "does not read"),
            (raw("\"\\ud800\""), "", "does not read"),
        ] {
            let page = Page::map(vec![Item::Json(item)], 1, &RecordSchema::user(), ENOUGH);
            let rejected = &page.rejects[0];
            assert_eq!(rejected.field, field, "{}", rejected.reason);
            assert!(
                rejected.reason.contains(says) && !rejected.reason.contains('\0'),
                "{}",
                rejected.reason
            );
        }
    }

    #[test]
    fn an_item_that_is_not_read_is_kept_as_text() {
        let heavy = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
        for (text, class) in [("\"\\ud800\"", "Unreadable"), (&heavy, "TooLarge")] {
            let page = Page::map(vec![item(text)], 1, &RecordSchema::user(), ENOUGH);
            let rejected = &page.rejects[0];
            assert_eq!(rejected.class, class);
            assert_eq!(serde_json::from_str::<String>(rejected.raw.get()).unwrap(), text);
        }
    }

    #[test]
    fn a_line_that_is_no_json_is_a_reject_that_counts_and_does_not_keep_the_others_from_landing() {
        for (text, kept) in [
            (&b"{\"a\": oops}"[..], "{\"a\": oops}"),
            (b"{\"a\"", "{\"a\""),
            (b"x \xff \0", "x \u{fffd} \0"),
        ] {
            let items = || vec![item(&user()), Item::Line(text.into()), item(&user())];

            let page = Page::map(items(), 3, &RecordSchema::user(), ENOUGH);

            assert_eq!((page.items(), page.records.len(), page.rejects.len()), (3, 2, 1), "{kept}");
            let rejected = &page.rejects[0];
            assert_eq!((rejected.field.as_str(), rejected.class), ("", "Unreadable"), "{kept}");
            assert!(rejected.reason.starts_with("the item does not read: "), "{}", rejected.reason);
            assert!(!rejected.reason.contains("oops"), "{}", rejected.reason);
            assert_eq!(serde_json::from_str::<String>(rejected.raw.get()).unwrap(), kept);
            assert_eq!(
                Page::map(items(), 2, &RecordSchema::user(), ENOUGH).items(),
                2,
                "the limit is of lines"
            );
        }
    }
}

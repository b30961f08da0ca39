//! A page of items, cut to the run's limit and mapped to records.

use std::fmt;

use serde_json::{Value as Json, value::RawValue};
use userpipeline_api::text::truncate;
use userpipeline_record::{Mapped, Members, RawForm, Reads, Record, RecordSchema, check_weight, parse_item};

use crate::raw_item::RawItem;

/// The longest reason of a reject, in bytes.
const MAX_REASON: usize = 500;
/// The bytes of it in the run's message.
const SHOWN_REASON: usize = 200;
// Classes of rejects, beside those of the mapping.
const UNREADABLE: &str = "Unreadable";
const TOO_LARGE: &str = "TooLarge";

/// An item as the source served it.
#[derive(Debug)]
pub enum Item {
    Json(RawItem),
    /// A line that is not JSON, trimmed. It may be invalid UTF-8.
    InvalidLine(Box<[u8]>),
}

/// An item that is not a record.
#[derive(Debug)]
pub struct RejectedItem {
    /// Empty for the item as a whole.
    pub field: String,
    /// In CamelCase.
    pub class: &'static str,
    pub reason: String,
    pub raw: RawItem,
}

impl fmt::Display for RejectedItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            f.write_str("the item")?;
        } else {
            write!(f, "field `{}`", self.field)?;
        }
        write!(f, ", {}: {}", self.class, truncate(&self.reason, SHOWN_REASON))
    }
}

/// An item that is a record.
#[derive(Debug)]
pub struct MappedItem {
    /// Only the key, if the item deletes its record.
    pub record: Record,
    /// With `orderBy`, see [`RecordSchema::map_ordered`].
    pub order: Option<i64>,
    pub deleted: bool,
    /// It does not pass `spec.record.where`.
    pub filtered: bool,
    pub raw: RawItem,
}

#[derive(Debug, Default)]
pub struct MappedPage {
    pub records: Vec<MappedItem>,
    pub rejects: Vec<RejectedItem>,
    /// The size of its items as they were served.
    bytes: usize,
}

impl MappedPage {
    /// Maps up to `limit` items. Records of more than `max_record` bytes are rejected. `raw_form`: what is stored of the items themselves.
    pub fn map(mut items: Vec<Item>, limit: i64, schema: &RecordSchema, max_record: usize, raw_form: &RawForm) -> Self {
        items.truncate(usize::try_from(limit).unwrap_or(0));
        let needs = Needs::of(schema);
        let mut page = Self::default();
        for item in items {
            let raw = match item {
                Item::Json(raw) => raw,
                Item::InvalidLine(line) => {
                    let mut rejected = reject_line(&line);
                    page.bytes += rejected.raw.bytes().len();
                    rejected.raw = stored(rejected.raw, raw_form, false);
                    page.rejects.push(rejected);
                    continue;
                }
            };
            page.bytes += raw.bytes().len();
            match map_item(&raw, schema, &needs, max_record) {
                Ok((mapped, order)) => page.records.push(MappedItem {
                    deleted: matches!(mapped, Mapped::Delete(_)),
                    filtered: matches!(mapped, Mapped::Filtered(_)),
                    record: mapped.into_record(),
                    order,
                    raw: stored(raw, raw_form, true),
                }),
                Err(error) => page.rejects.push(RejectedItem {
                    field: error.field,
                    class: error.class,
                    reason: storable(&error.reason),
                    raw: match error.raw {
                        Some(text) => stored(text, raw_form, false),
                        None => stored(raw, raw_form, true),
                    },
                }),
            }
        }
        page
    }

    /// The size of its items.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The number of its items.
    pub fn items(&self) -> usize {
        self.records.len() + self.rejects.len()
    }
}

struct MappingError {
    field: String,
    class: &'static str,
    reason: String,
    /// Replaces an item that PostgreSQL may refuse.
    raw: Option<RawItem>,
}

/// What a record needs of its item.
struct Needs {
    reads: Reads,
    /// If it is only members.
    members: Option<Members>,
}

impl Needs {
    fn of(schema: &RecordSchema) -> Self {
        Self {
            reads: schema.item_reads(),
            members: Members::of(schema),
        }
    }
}

/// The record of an item, and the value of `orderBy`.
fn map_item(raw: &RawItem, schema: &RecordSchema, needs: &Needs, max_record: usize) -> Result<(Mapped, Option<i64>), MappingError> {
    let error = |class, reason, raw| MappingError {
        field: String::new(),
        class,
        reason,
        raw,
    };
    // JSON that is valid by its grammar may be nested too deeply or contain half of a surrogate pair. PostgreSQL would refuse it, and
    // with it the whole page, so it is stored as text.
    let text = raw.get();
    let as_text = || Some(as_text(text));
    check_weight(text.as_bytes()).map_err(|reason| error(TOO_LARGE, reason, as_text()))?;
    let mapped = needs.members.as_ref().and_then(|members| schema.map_text(text, members));
    let (mapped, order) = if let Some(mapped) = mapped {
        mapped
    } else {
        let item = parse_item(text, &needs.reads).map_err(|e| error(UNREADABLE, parse_error(&e), as_text()))?;
        map_parsed(&item, text, schema)?
    };
    // Of what does not pass, a message has no content.
    let size = if let Mapped::Upsert(record) = &mapped { record.size() } else { 0 };
    if size > max_record {
        let reason = format!(
            "the record has about {size} bytes, and a message holds at most {max_record}: see max.message.bytes in spec.kafka.topic.config"
        );
        return Err(error(TOO_LARGE, reason, None));
    }
    Ok((mapped, order))
}

fn map_parsed(item: &Json, text: &str, schema: &RecordSchema) -> Result<(Mapped, Option<i64>), MappingError> {
    let mapped = schema.map_ordered(item, Some(text.as_bytes()));
    mapped.map_err(|reject| MappingError {
        reason: format!("from {}: {}", reject.from, reject.reason),
        class: reject.class,
        field: reject.field,
        raw: None,
    })
}

/// What is stored of an item. `is_item`: it is JSON as it was served.
fn stored(raw: RawItem, form: &RawForm, is_item: bool) -> RawItem {
    match form.replacement(raw.get(), is_item) {
        Some(replacement) => RawItem::own(replacement),
        None => raw,
    }
}

/// A line that is not JSON is stored as text, with replacements for invalid UTF-8.
fn reject_line(line: &[u8]) -> RejectedItem {
    let e = serde_json::from_slice::<&RawValue>(line).err();
    RejectedItem {
        field: String::new(),
        class: UNREADABLE,
        reason: e.as_ref().map(parse_error).unwrap_or_default(),
        raw: as_text(&String::from_utf8_lossy(line)),
    }
}

/// A text as JSON.
fn as_text(text: &str) -> RawItem {
    RawItem::own(Json::from(text).to_string())
}

/// With the position, without the content.
fn parse_error(e: &serde_json::Error) -> String {
    format!("the item cannot be parsed: {e}")
}

/// A reason may quote the item: it is cut, and NUL is replaced, which PostgreSQL's text cannot contain.
fn storable(reason: &str) -> String {
    truncate(reason, MAX_REASON).replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Larger than any record here but one.
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

    fn raw(text: &(impl ToString + ?Sized)) -> RawItem {
        RawItem::own(text.to_string())
    }

    fn item(text: &(impl ToString + ?Sized)) -> Item {
        Item::Json(raw(text))
    }

    fn with(pointer: &str, value: Json) -> RawItem {
        let mut user = user();
        *user.pointer_mut(pointer).unwrap() = value;
        raw(&user)
    }

    #[test]
    fn a_page_is_cut_at_the_limit() {
        for (items, limit, taken) in [(5, 10, 5), (5, 5, 5), (5, 3, 3), (5, 0, 0), (5, -1, 0), (0, 10, 0)] {
            let page = MappedPage::map(
                (0..items).map(|_| item(&user())).collect(),
                limit,
                &RecordSchema::user(),
                ENOUGH,
                &RawForm::Keep,
            );
            assert_eq!((page.items(), page.rejects.len()), (taken, 0), "{items} {limit}");
        }
    }

    #[test]
    fn the_raw_item_is_stored_as_it_was_served() {
        let text = user()
            .to_string()
            .replace("12345", "12345.10")
            .replace(':', " : ")
            .replace("http : ", "http:")
            .replace("03 : 04 : 05", "03:04:05");
        let page = MappedPage::map(vec![item(&text)], 1, &RecordSchema::user(), ENOUGH, &RawForm::Keep);
        assert_eq!(page.records[0].raw.get(), text);
    }

    #[test]
    fn an_item_that_is_not_a_record_is_rejected_with_its_reason() {
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        for (item, field, expected) in [
            (raw("17"), "id", "missing"),
            (with("/login/uuid", json!("x\0")), "id", "/login/uuid"),
            (with("/name/first", json!("x\0y")), "first_name", "NUL"),
            (with("/phone", json!("x".repeat(ENOUGH))), "", "bytes"),
            (raw(&deep), "", "cannot be parsed"),
            (raw("\"\\ud800\""), "", "cannot be parsed"),
        ] {
            let page = MappedPage::map(vec![Item::Json(item)], 1, &RecordSchema::user(), ENOUGH, &RawForm::Keep);
            let rejected = &page.rejects[0];
            assert_eq!(rejected.field, field, "{}", rejected.reason);
            let shown = if field.is_empty() {
                "the item, ".to_owned()
            } else {
                format!("field `{field}`, ")
            };
            assert!(rejected.to_string().starts_with(&shown), "{rejected}");
            assert!(
                rejected.reason.contains(expected) && !rejected.reason.contains('\0'),
                "{}",
                rejected.reason
            );
        }
    }

    #[test]
    fn nothing_of_a_masked_value_is_stored_whether_its_item_is_a_record_or_not() {
        // Given a record with masks, and expressions that fail for some of the values
        let year = json!({"with": "Bucket", "period": "Year"});
        let record = json!({"key": ["id"], "where": "100 / (age - 56) > 0", "deleteWhen": "item.id == 7 && int(item.email) > 0", "fields": [
            {"name": "id", "type": "long", "from": "/id"},
            {"name": "email", "type": "string", "from": "/email", "mask": {"with": "Truncate", "length": 1}},
            {"name": "age", "type": "long", "from": "/age", "mask": {"with": "Bucket", "size": 10}},
            {"name": "born", "type": "date", "from": "/born", "optional": true, "mask": year},
            {"name": "at", "type": "timestamp", "from": "/at", "format": "%d.%m.%Y", "timeZone": "UTC", "optional": true, "mask": year},
            {"name": "pin", "type": "long", "expr": "has(item.pin) ? int(item.pin) : 0", "mask": {"with": "Bucket", "size": 100}},
        ]});
        let schema = RecordSchema::read(Some(&serde_json::from_value(record).unwrap())).unwrap();
        let plain = r#"{"id": 1, "email": "secret", "age": 57}"#;
        for (text, class) in [
            (plain, ""),
            (
                r#"{"id": 1, "email": "s\u0065cret", "age": 57, "age": 57, "born": "1957-05-07", "pin": "5757"}"#,
                "",
            ),
            (&plain.replace('1', "\"x\""), "ValueInvalid"),
            (&plain.replace("\"secret\"", "[\"secret\"]"), "ValueInvalid"),
            (&plain.replace("57", "\"57\""), "ValueInvalid"),
            (&plain.replace("57", "57, \"born\": \"57-57-57\""), "ValueInvalid"),
            (&plain.replace("57", "57, \"at\": \"57.57.57\""), "ValueInvalid"),
            (&plain.replace("57", "57, \"pin\": \"secret\""), "ExpressionFailed"),
            (&plain.replace('1', "7"), "ExpressionFailed"),
            (&plain.replace("57", "56"), "FilterInvalid"),
            (&plain.replace("secret", &"secret".repeat(2000)), ""),
            (&plain.replace("secret", "secret\\ud800"), "Unreadable"),
            (r#""secret""#, "ExpressionFailed"),
            ("secret", "Unreadable"),
        ] {
            // When items are mapped, also such that are rejected
            let items = match text {
                "secret" => vec![Item::InvalidLine(text.as_bytes().into())],
                text => vec![item(text)],
            };
            let page = MappedPage::map(items, 1, &schema, 1000, &RawForm::of(&schema, None));

            // Then neither record, item nor reason has the value, and the size is that of what was served
            let found = page.rejects.first().map_or("", |reject| reject.class);
            assert_eq!(found, class, "{text}");
            let records = page
                .records
                .iter()
                .map(|record| format!("{:?} {}", record.record, record.raw.get()));
            let rejects = page
                .rejects
                .iter()
                .map(|reject| format!("{reject} {} {}", reject.reason, reject.raw.get()));
            let stored: String = records.chain(rejects).collect();
            let quoted = ["secret", "57\"", " 57", "57-", "57."].iter().find(|value| stored.contains(*value));
            assert_eq!(quoted, None, "{text}: {stored}");
            assert!(page.bytes() >= text.len(), "{text}");
        }
    }

    #[test]
    fn an_item_that_is_not_parsed_is_stored_as_text() {
        let heavy = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
        for (text, class) in [("\"\\ud800\"", "Unreadable"), (&heavy, "TooLarge")] {
            let page = MappedPage::map(vec![item(text)], 1, &RecordSchema::user(), ENOUGH, &RawForm::Keep);
            let rejected = &page.rejects[0];
            assert_eq!(rejected.class, class);
            assert_eq!(serde_json::from_str::<String>(rejected.raw.get()).unwrap(), text);
        }
    }

    #[test]
    fn a_line_that_is_not_json_is_a_reject_and_the_other_lines_are_records() {
        for (text, stored) in [
            (&b"{\"a\": oops}"[..], "{\"a\": oops}"),
            (b"{\"a\"", "{\"a\""),
            (b"x \xff \0", "x \u{fffd} \0"),
        ] {
            let items = || vec![item(&user()), Item::InvalidLine(text.into()), item(&user())];

            let page = MappedPage::map(items(), 3, &RecordSchema::user(), ENOUGH, &RawForm::Keep);

            assert_eq!((page.items(), page.records.len(), page.rejects.len()), (3, 2, 1), "{stored}");
            let rejected = &page.rejects[0];
            assert_eq!((rejected.field.as_str(), rejected.class), ("", "Unreadable"), "{stored}");
            assert!(rejected.reason.starts_with("the item cannot be parsed: "), "{}", rejected.reason);
            assert!(!rejected.reason.contains("oops"), "{}", rejected.reason);
            assert_eq!(serde_json::from_str::<String>(rejected.raw.get()).unwrap(), stored);
            assert_eq!(
                MappedPage::map(items(), 2, &RecordSchema::user(), ENOUGH, &RawForm::Keep).items(),
                2,
                "the limit counts lines"
            );
        }
    }
}

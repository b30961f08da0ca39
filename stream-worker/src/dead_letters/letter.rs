//! A dead letter on its topic: the message as it came, with our headers after its own.

use std::collections::BTreeMap;

use jiff::Timestamp;
use userpipeline_api::text::truncate;

use crate::model::{Header, Message, RecordFault};

/// Bytes.
const MESSAGE_LIMIT: usize = 1000;

/// The first of our headers: ours are from its last occurrence on.
const FIRST: &str = "dlq.origin.topic";
/// The record's key and version, where it could be decoded: an external producer's message may have others.
const KEY: &str = "dlq.record.key";
const VERSION: &str = "dlq.record.version";

/// The headers of a dead letter: those of the message, untouched, and ours behind them.
pub(super) fn headers_of(message: &Message, fault: &RecordFault, topic: &str, group: &str, at: Timestamp) -> Vec<Header> {
    let own = [
        (FIRST, Some(topic.to_owned())),
        ("dlq.origin.partition", Some(message.partition.to_string())),
        ("dlq.origin.offset", Some(message.offset.to_string())),
        ("dlq.origin.timestamp", message.timestamp.map(|t| t.to_string())),
        ("dlq.error.class", Some(fault.class.to_owned())),
        ("dlq.error.message", Some(truncate(&fault.message, MESSAGE_LIMIT))),
        ("dlq.at", Some(at.to_string())),
        ("dlq.consumer.group", Some(group.to_owned())),
    ];
    let record = fault
        .record
        .iter()
        .flat_map(|(key, version)| [(KEY, Some(key.clone())), (VERSION, Some(version.to_string()))]);
    message
        .headers
        .iter()
        .cloned()
        .chain(
            own.into_iter()
                .chain(record)
                .map(|(key, value)| (key.to_owned(), value.map(String::into_bytes))),
        )
        .collect()
}

/// A dead letter that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Its partition and offset on the dead-letter topic.
    pub at: (i32, i64),
    /// The message as it was, but for where it is: that is `origin`.
    pub message: Message,
    /// The topic, partition and offset that it came from, as its headers say.
    pub origin: (String, String, String),
    pub class: String,
    pub error: String,
    /// When it became a dead letter.
    pub since: Option<Timestamp>,
    /// The record's key and version, where it could be read.
    pub record: Option<(String, String)>,
}

impl Letter {
    /// Reads a message of the dead-letter topic; a foreign one has no origin and no fault.
    pub fn read(mut message: Message) -> Self {
        let first = message
            .headers
            .iter()
            .rposition(|(key, _)| key == FIRST)
            .unwrap_or(message.headers.len());
        let mut own: BTreeMap<String, String> = message
            .headers
            .split_off(first)
            .into_iter()
            .map(|(key, value)| (key, String::from_utf8_lossy(&value.unwrap_or_default()).into_owned()))
            .collect();
        let mut value = |key: &str| own.remove(key).unwrap_or_default();
        let since = value("dlq.at").parse().ok();
        Self {
            at: message.origin(),
            origin: (value(FIRST), value("dlq.origin.partition"), value("dlq.origin.offset")),
            record: key_and_version(value(KEY), value(VERSION)),
            class: value("dlq.error.class"),
            error: value("dlq.error.message"),
            since: since.or_else(|| Timestamp::from_millisecond(message.timestamp?).ok()),
            message,
        }
    }

    /// The record's version, where it could be read, or the message says one.
    pub fn version(&self) -> Option<String> {
        if let Some((_, version)) = &self.record {
            return Some(version.clone());
        }
        let version = self.message.header(userpipeline_record::message::VERSION_HEADER)?;
        Some(String::from_utf8_lossy(version).into_owned())
    }

    /// The record's key, where it could be read, or else the message's, as text.
    pub fn key(&self) -> Option<String> {
        if let Some((key, _)) = &self.record {
            return Some(key.clone());
        }
        let key = self.message.key.as_deref()?;
        Some(String::from_utf8_lossy(key).into_owned())
    }
}

fn key_and_version(key: String, version: String) -> Option<(String, String)> {
    (!key.is_empty() && !version.is_empty()).then_some((key, version))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        Message {
            partition: 2,
            offset: 77,
            timestamp: Some(1_700_000_000_123),
            headers: vec![
                ("version".into(), Some(b"x".to_vec())),
                ("empty".into(), None),
                ("version".into(), Some(b"y".to_vec())),
            ],
            key: Some(b"k".to_vec()),
            payload: Some(vec![0xff]),
        }
    }

    #[test]
    fn a_dead_letter_keeps_its_headers_and_adds_its_origin_and_fault() {
        let message = message();
        let fault = RecordFault::new("DecodeFailed", "e".repeat(5000));
        let at = Timestamp::from_millisecond(0).unwrap();
        let headers = headers_of(&message, &fault, "users", "demo.users", at);
        assert_eq!(headers[..3], message.headers);
        let own: Vec<(&str, String)> = headers[3..]
            .iter()
            .map(|(k, v)| (k.as_str(), String::from_utf8(v.clone().unwrap()).unwrap()))
            .collect();
        let expected: Vec<(&str, String)> = vec![
            ("dlq.origin.topic", "users".into()),
            ("dlq.origin.partition", "2".into()),
            ("dlq.origin.offset", "77".into()),
            ("dlq.origin.timestamp", "1700000000123".into()),
            ("dlq.error.class", "DecodeFailed".into()),
            ("dlq.error.message", "e".repeat(MESSAGE_LIMIT) + "…"),
            ("dlq.at", "1970-01-01T00:00:00Z".into()),
            ("dlq.consumer.group", "demo.users".into()),
        ];
        assert_eq!(own, expected);
    }

    #[test]
    fn what_is_read_is_the_message_as_it_was_and_what_is_wrong_with_it() {
        let original = message();
        let at = Timestamp::from_second(1_700_000_000).unwrap();
        // Even where the message had headers like ours before.
        let mut twice = original.clone();
        twice.headers.push((FIRST.to_owned(), None));
        for original in [original, twice] {
            let fault = RecordFault::new("KeyMissing", "the message has no key");
            let letter = Letter::read(Message {
                partition: 0,
                offset: 5,
                headers: headers_of(&original, &fault, "users", "g", at),
                ..original.clone()
            });
            assert_eq!(letter.at, (0, 5));
            assert_eq!(letter.origin, ("users".into(), "2".into(), "77".into()));
            assert_eq!(
                (letter.class.as_str(), letter.error.as_str()),
                ("KeyMissing", "the message has no key")
            );
            assert_eq!((letter.since, letter.version()), (Some(at), Some("y".into())));
            assert_eq!(letter.message.headers, original.headers);
        }
    }

    #[test]
    fn a_decoded_record_is_identified_by_its_own_key_and_version() {
        let write = crate::model::Write::upsert(crate::model::VersionedRecord {
            origin: (2, 77),
            key: r#"["d1",5]"#.into(),
            version: 5000,
            order: None,
            record: userpipeline_record::Record(Vec::new()),
        });
        let fault = RecordFault::quoting("PostgresRefused", "too hot: 999").of(&write);
        let letter = Letter::read(Message {
            headers: headers_of(&message(), &fault, "users", "g", Timestamp::UNIX_EPOCH),
            ..message()
        });
        assert_eq!((letter.key(), letter.version()), (Some(r#"["d1",5]"#.into()), Some("5000".into())));
        assert_eq!(letter.message.headers, message().headers);
    }

    #[test]
    fn a_foreign_message_has_a_time() {
        let letter = Letter::read(message());
        assert_eq!(letter.message, message());
        assert_eq!(letter.class, "");
        assert_eq!(letter.since, Timestamp::from_millisecond(1_700_000_000_123).ok());
    }
}

//! Selects dead letters.

use std::collections::HashSet;

use clap::Args;
use jiff::{Span, Timestamp, tz::TimeZone};
use sha2::{Digest, Sha256};

use super::letter::Letter;

/// Selects dead letters that match all criteria.
#[derive(Args, Clone, Debug, Default)]
pub struct Selection {
    /// The fault's class, such as DecodeFailed; can be repeated.
    #[arg(long, value_name = "CLASS")]
    pub class: Vec<String>,
    /// From when they became dead letters: a time (2026-11-21T08:00:00Z), or how long ago (90m, 2d).
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    pub since: Option<Timestamp>,
    /// Until when they became dead letters.
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    pub until: Option<Timestamp>,
    /// The record's key, as it is on the topic; can be repeated.
    #[arg(long)]
    pub key: Vec<String>,
}

/// A time, or how long ago.
fn moment(text: &str) -> Result<Timestamp, String> {
    let ago = |text: &str| {
        let span: Span = text.parse().ok()?;
        let now = Timestamp::now().to_zoned(TimeZone::UTC);
        now.checked_sub(span).ok().map(|then| then.timestamp())
    };
    let time = text.parse().ok().or_else(|| ago(text));
    time.ok_or_else(|| "neither a time such as 2026-11-21T08:00:00Z nor how long ago, such as 90m".to_owned())
}

impl Selection {
    pub fn has(&self, letter: &Letter) -> bool {
        let one_of = |selected: &[String], found: Option<&str>| selected.is_empty() || selected.iter().any(|w| found == Some(w.as_str()));
        one_of(&self.class, Some(&letter.class))
            && one_of(&self.key, letter.key().as_deref())
            && self.since.is_none_or(|since| letter.since.is_some_and(|at| at >= since))
            && self.until.is_none_or(|until| letter.since.is_some_and(|at| at < until))
    }
}

/// Finds repeated messages: one that was redriven and failed again is on the topic twice.
#[derive(Debug, Default)]
pub struct Distinct(HashSet<[u8; 32]>);

impl Distinct {
    pub fn is_new(&mut self, letter: &Letter) -> bool {
        let message = &letter.message;
        let mut hash = Sha256::new();
        let mut part = |bytes: Option<&[u8]>| {
            hash.update(bytes.map_or(u64::MAX, |bytes| bytes.len() as u64).to_be_bytes());
            hash.update(bytes.unwrap_or_default());
        };
        part(message.key.as_deref());
        part(message.payload.as_deref());
        for (name, value) in &message.headers {
            part(Some(name.as_bytes()));
            part(value.as_deref());
        }
        self.0.insert(hash.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Message;

    fn letter(class: &str, key: Option<&str>, at: i64) -> Letter {
        Letter {
            at: (0, 0),
            message: Message {
                key: key.map(|key| key.as_bytes().to_vec()),
                ..Message::default()
            },
            origin: Default::default(),
            class: class.to_owned(),
            error: String::new(),
            since: Timestamp::from_second(at).ok(),
            record: None,
        }
    }

    #[test]
    fn letters_are_selected_by_class_key_and_time() {
        let at = |second| Timestamp::from_second(second).ok();
        let words = |words: &[&str]| words.iter().map(|&w| w.to_owned()).collect::<Vec<_>>();
        let all = [
            letter("DecodeFailed", Some("a"), 10),
            letter("KeyMissing", None, 20),
            letter("DecodeFailed", Some("b"), 30),
        ];
        let cases = [
            (Selection::default(), vec![0, 1, 2]),
            (
                Selection {
                    class: words(&["DecodeFailed"]),
                    ..Selection::default()
                },
                vec![0, 2],
            ),
            (
                Selection {
                    class: words(&["DecodeFailed", "KeyMissing"]),
                    key: words(&["b"]),
                    ..Selection::default()
                },
                vec![2],
            ),
            (
                Selection {
                    since: at(20),
                    ..Selection::default()
                },
                vec![1, 2],
            ),
            (
                Selection {
                    since: at(10),
                    until: at(30),
                    ..Selection::default()
                },
                vec![0, 1],
            ),
        ];
        for (selection, expected) in cases {
            let found: Vec<usize> = (0..3).filter(|&i| selection.has(&all[i])).collect();
            assert_eq!(found, expected, "{selection:?}");
        }
    }

    #[test]
    fn a_time_is_absolute_or_relative() {
        assert_eq!(moment("1970-01-01T00:00:10Z"), Ok(Timestamp::from_second(10).unwrap()));
        let ago = Timestamp::now().as_second() - moment("90m").unwrap().as_second();
        assert!((5400..5410).contains(&ago), "{ago}");
        assert!(moment("2d").is_ok());
        assert!(moment("yesterday").is_err());
    }

    #[test]
    fn the_same_message_counts_once() {
        let mut distinct = Distinct::default();
        assert!(distinct.is_new(&letter("A", Some("k"), 1)));
        assert!(!distinct.is_new(&letter("B", Some("k"), 2)));
        assert!(distinct.is_new(&letter("A", Some("l"), 1)));
        assert!(distinct.is_new(&letter("A", None, 1)));
        let empty = letter("A", Some(""), 1);
        assert!(distinct.is_new(&empty));
    }
}

//! Dead letters for people, and for programs.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use userpipeline_api::text::truncate;

use super::letter::Letter;
use crate::model::Header;

pub const COLUMNS: [&str; 7] = ["SINCE", "CLASS", "LETTER", "FROM", "VERSION", "KEY", "ERROR"];
/// Bytes of an error in a list.
const ERROR: usize = 120;

/// A line of a list, in the order of [`COLUMNS`].
pub fn line(letter: &Letter) -> String {
    let (topic, partition, offset) = &letter.origin;
    let since = letter.since.and_then(|at| at.round(jiff::Unit::Second).ok());
    let cells = [
        since.map(|at| at.to_string()).unwrap_or_default(),
        letter.class.clone(),
        format!("{}:{}", letter.at.0, letter.at.1),
        format!("{topic}:{partition}:{offset}"),
        letter.version().unwrap_or_default(),
        letter.key().unwrap_or_default(),
        truncate(&letter.error, ERROR),
    ];
    cells
        .map(|cell| if cell.is_empty() { "-".to_owned() } else { printable(&cell) })
        .join("\t")
}

/// Without characters that would break a line, or the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A letter as a document. Bytes that are not text are in base64.
pub fn whole(letter: &Letter, record: Option<&Value>) -> Value {
    let (topic, partition, offset) = &letter.origin;
    let header = |(name, value): &Header| json!({"name": name, "value": value.as_deref().map(bytes)});
    json!({
        "letter": {"partition": letter.at.0, "offset": letter.at.1},
        "since": letter.since.map(|at| at.to_string()),
        "class": letter.class,
        "error": letter.error,
        "origin": {"topic": topic, "partition": partition, "offset": offset},
        "version": letter.version(),
        "key": letter.message.key.as_deref().map(bytes),
        "headers": letter.message.headers.iter().map(header).collect::<Vec<_>>(),
        "record": record,
        "payload": letter.message.payload.as_deref().map(bytes),
    })
}

fn bytes(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!({"base64": STANDARD.encode(bytes)}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Message;

    #[test]
    fn a_line_has_every_column_and_nothing_that_breaks_it() {
        let letter = Letter {
            at: (0, 12),
            message: Message {
                key: Some(b"a\nb\x1b[2J".to_vec()),
                headers: vec![("version".into(), Some(b"7".to_vec())), ("x".into(), None)],
                payload: Some(vec![0, 0xff]),
                ..Message::default()
            },
            origin: ("users".into(), "3".into(), "42".into()),
            class: "DecodeFailed".into(),
            error: "e".repeat(200),
            since: jiff::Timestamp::from_second(0).ok(),
            record: None,
        };
        let line = line(&letter);
        assert_eq!(line.split('\t').count(), COLUMNS.len());
        assert!(
            line.starts_with("1970-01-01T00:00:00Z\tDecodeFailed\t0:12\tusers:3:42\t7\ta\u{fffd}b\u{fffd}[2J\teee"),
            "{line}"
        );
        let whole = whole(&letter, None);
        assert_eq!(whole["payload"], json!({"base64": "AP8="}));
        assert_eq!(whole["headers"][1], json!({"name": "x", "value": null}));
    }
}

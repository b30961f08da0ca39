//! The body of an answer: read within its bound, and taken apart into items.

use std::collections::BTreeMap;

use reqwest::Response;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use userpipeline_api::Format;
use userpipeline_record::raw_at;

use super::waits::Waits;
use crate::page::Item;

/// Reads a body of at most `limit` bytes, counted after decompression: what is larger is not held, let alone unpacked.
pub async fn read(mut response: Response, limit: u64, waits: &Waits) -> Result<Vec<u8>, String> {
    let too_large = || format!("the answer is larger than {limit} bytes (spec.source.http.maxBodySize)");
    if response.content_length().is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let mut body = Vec::new();
    loop {
        match waits.piece(&mut response).await {
            Ok(Some(piece)) if (body.len() + piece.len()) as u64 > limit => return Err(too_large()),
            Ok(Some(piece)) => body.extend_from_slice(&piece),
            Ok(None) => return Ok(body),
            Err(e) => return Err(format!("the answer was cut off after {} bytes: {e}", body.len())),
        }
    }
}

/// The items of an answer: the array at `pointer`, or the lines. An error names what is wrong, by position and by keys, never by
/// content.
pub fn items(body: &[u8], format: Format, pointer: &str) -> Result<Vec<Item>, String> {
    match format {
        Format::Json => array(body, pointer),
        Format::Ndjson => lines(body),
    }
}

/// A line that is no JSON is an item that is rejected, and does not keep the others from being read. But an answer that was cut off within
/// its last line is to be asked for again; and one of which no line reads is no answer of this kind, but a page that says an error.
fn lines(body: &[u8]) -> Result<Vec<Item>, String> {
    let (mut items, mut first_error) = (Vec::new(), None);
    for (i, whole) in body.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let line = whole.trim_ascii();
        if line.is_empty() {
            continue;
        }
        items.push(match serde_json::from_slice(line) {
            Ok(raw) => Item::Json(raw),
            Err(e) => {
                let error = || format!("line {} of the answer: {}", i + 1, syntax(body, &e));
                if e.is_eof() && !whole.ends_with(b"\n") {
                    return Err(error());
                }
                first_error.get_or_insert_with(error);
                Item::Line(line.into())
            }
        });
    }
    match first_error {
        Some(error) if items.iter().all(|item| matches!(item, Item::Line(_))) => Err(error),
        _ => Ok(items),
    }
}

fn array(body: &[u8], pointer: &str) -> Result<Vec<Item>, String> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err("the answer is empty".to_owned());
    }
    serde_json::from_slice::<&RawValue>(body).map_err(|e| syntax(body, &e))?;
    raw_at(body, pointer)
        .and_then(|found| serde_json::from_str(found.get()).ok())
        .ok_or_else(|| match pointer {
            "" => format!("the answer is no array: it is {}", shape(body)),
            pointer => format!("the answer has no array at {pointer}: it is {}", shape(body)),
        })
}

fn syntax(body: &[u8], e: &serde_json::Error) -> String {
    if e.is_eof() {
        format!("the answer is JSON that ends too soon, after {} bytes", body.len())
    } else {
        format!("the answer is no JSON: {e}")
    }
}

/// Its first keys only: with all of its values, it could take a hundred times as much memory.
#[allow(clippy::zero_sized_map_values)] // A set is not read from an object.
fn shape(body: &[u8]) -> String {
    let Ok(object) = serde_json::from_slice::<BTreeMap<String, IgnoredAny>>(body) else {
        return "no object".to_owned();
    };
    let keys: Vec<String> = object.keys().take(5).map(|key| key.chars().take(40).collect()).collect();
    if keys.is_empty() {
        "an empty object".to_owned()
    } else {
        format!("an object with {}", keys.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(body: &[u8]) -> Result<Vec<String>, String> {
        told(body, Format::Json, "/results")
    }

    /// The items, with a mark before those that are no JSON.
    fn told(body: &[u8], format: Format, pointer: &str) -> Result<Vec<String>, String> {
        let told = |item: &Item| match item {
            Item::Json(raw) => raw.get().to_owned(),
            Item::Line(line) => format!("!{}", line.escape_ascii()),
        };
        Ok(items(body, format, pointer)?.iter().map(told).collect())
    }

    #[test]
    fn items_are_where_the_spec_says() {
        let all = |body: &str, format, pointer: &str| told(body.as_bytes(), format, pointer);
        for (body, pointer) in [
            ("[1, {\"a\": 2}]", ""),
            ("{\"data\": {\"it/ems\": [1, {\"a\": 2}]}}", "/data/it~1ems"),
            ("[[], [1, {\"a\": 2}]]", "/1"),
        ] {
            assert_eq!(all(body, Format::Json, pointer).unwrap(), ["1", "{\"a\": 2}"], "{body}");
        }
        assert_eq!(all("1\n\n{\"a\": 2}\r\n", Format::Ndjson, "").unwrap(), ["1", "{\"a\": 2}"]);
        assert!(all("", Format::Ndjson, "").unwrap().is_empty());
        assert!(all("{}", Format::Json, "").unwrap_err().contains("no array: it is an empty object"));
        assert!(all("{\"a\": 1}", Format::Json, "/a/b").unwrap_err().contains("no array at /a/b"));
    }

    #[test]
    fn a_line_that_is_no_json_is_an_item_of_its_own() {
        for (body, expected) in [
            (&b"{\"a\": 1}\n{a: oops}\r\n\n2\n"[..], &["{\"a\": 1}", "!{a: oops}", "2"][..]),
            // The first, the last, and one that is not in UTF-8.
            (b"oops\n\xff\n1", &["!oops", "!\\xff", "1"]),
            (b"1\noops", &["1", "!oops"]),
            (b"1\n{} {}", &["1", "!{} {}"]),
            (b"1\n[\"\xff\"]", &["1", "![\\\"\\xff\\\"]"]),
            // It ends too soon, but the answer goes on, or has ended its line.
            (b"1\n[1,\n2", &["1", "![1,", "2"]),
            (b"1\n[1,\n", &["1", "![1,"]),
        ] {
            assert_eq!(told(body, Format::Ndjson, "").unwrap(), expected, "{}", body.escape_ascii());
        }
    }

    #[test]
    fn lines_that_were_cut_off_or_are_none_at_all_are_no_page() {
        for (body, says) in [
            (
                "1\n{\"a\":",
                "line 2 of the answer: the answer is JSON that ends too soon, after 7 bytes",
            ),
            ("1\noops\n\"secret", "line 3 of the answer: the answer is JSON that ends too soon"),
            ("1\ntru", "line 2 of the answer: the answer is JSON that ends too soon"),
            (
                "\n<html>secret\n</html>\n",
                "line 2 of the answer: the answer is no JSON: expected value",
            ),
            ("{\n  \"error\": \"secret\"\n}\n", "line 1 of the answer: "),
        ] {
            let error = items(body.as_bytes(), Format::Ndjson, "").unwrap_err();
            assert!(error.starts_with(says) && !error.contains("secret"), "{body}: {error}");
        }
    }

    #[test]
    fn items_are_as_they_were_served() {
        let found = json(b"{\"info\": {}, \"results\": [ {\"a\" :1.50}, 7 ]}").unwrap();
        assert_eq!(found, ["{\"a\" :1.50}", "7"]);
        assert!(json(b"{\"results\": []}").unwrap().is_empty());
    }

    #[test]
    fn what_is_no_page_says_what_is_wrong() {
        for (body, says) in [
            ("", "empty"),
            ("  \n", "empty"),
            ("<html>", "no JSON: expected value at line 1 column 1"),
            ("{\"results\": [{\"a\":", "ends too soon, after 18 bytes"),
            ("{\"results\": []} x", "no JSON: trailing characters"),
            ("{\"error\": \"secret\"}", "no array at /results: it is an object with error"),
            ("{\"results\": \"secret\"}", "it is an object with results"),
            ("{\"results\": null}", "it is an object with results"),
            ("{}", "an empty object"),
            ("[1]", "no object"),
            ("\"secret\"", "no object"),
        ] {
            let error = json(body.as_bytes()).unwrap_err();
            assert!(error.contains(says) && !error.contains("secret"), "{body}: {error}");
        }
        assert!(json(b"{\"results\": [\"\xff\"]}").is_err());
    }
}

//! The body of a response: read up to its maximum size, and split into items.

use std::{collections::BTreeMap, fmt};

use reqwest::Response;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use userpipeline_api::{Format, text::truncate};
use userpipeline_record::{elements, raw_within};

use super::{quote::kind_of_text, timeouts::Timeouts};
use crate::{
    page::Item,
    raw_item::{Body, RawItem},
};

/// The keys of an object that an error lists: how many, and their length in bytes.
const LISTED_KEYS: usize = 5;
const LISTED_KEY_LENGTH: usize = 40;

/// Why a body was not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// Another attempt has the same result.
    TooLarge(String),
    CutOff(String),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge(error) | Self::CutOff(error) => f.write_str(error),
        }
    }
}

/// Reads a body of at most `limit` bytes, decompressed.
pub async fn read(mut response: Response, limit: u64, timeouts: &Timeouts) -> Result<Vec<u8>, ReadError> {
    let too_large = || {
        ReadError::TooLarge(format!(
            "the response is larger than {limit} bytes (spec.source.http.maxBodySize): request less, or raise it"
        ))
    };
    if response.content_length().is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let mut body = Vec::with_capacity(usize::try_from(response.content_length().unwrap_or(0)).unwrap_or(0));
    loop {
        match timeouts.next_chunk(&mut response).await {
            Ok(Some(chunk)) if (body.len() + chunk.len()) as u64 > limit => return Err(too_large()),
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body),
            Err(e) => {
                return Err(ReadError::CutOff(format!(
                    "the response was cut off after {} bytes: {e}",
                    body.len()
                )));
            }
        }
    }
}

/// The beginning of a body, as far as it arrives.
pub async fn beginning(mut response: Response, limit: usize, timeouts: &Timeouts) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() < limit
        && let Ok(Some(chunk)) = timeouts.next_chunk(&mut response).await
    {
        body.extend_from_slice(&chunk);
    }
    body.truncate(limit);
    body
}

/// What a body has where its items should be.
#[derive(Debug)]
pub enum Items {
    Found(Vec<Item>),
    /// No array. The text describes the response.
    None(NoItems, String),
}

/// What is there instead of the array of items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoItems {
    Absent,
    Null,
    EmptyText,
    /// Another value.
    Other,
}

/// Why a body cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// It ends too early.
    CutOff(String),
    /// It is not of the format.
    Invalid(String),
}

/// The items of a body: the array at `pointer`, or the lines. Errors have positions and keys, but no content, which may be personal.
pub fn items(body: &Body, format: Format, pointer: &str) -> Result<Items, BodyError> {
    match format {
        Format::Json => array(body, pointer),
        Format::Ndjson => lines(body).map(Items::Found),
    }
}

/// A line that is not JSON is an item, to be rejected, so that the other lines land. Two cases are errors instead, to be retried: the
/// body ends within its last line, or no line is JSON, as in an error page.
fn lines(body: &Body) -> Result<Vec<Item>, BodyError> {
    let (mut items, mut first_error) = (Vec::new(), None);
    for (i, whole) in body.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let line = whole.trim_ascii();
        if line.is_empty() {
            continue;
        }
        items.push(match serde_json::from_slice(line) {
            Ok(json) => Item::Json(RawItem::part(body, json)),
            Err(e) => {
                let error = || format!("line {} of the response: {}", i + 1, syntax(body, &e));
                if e.is_eof() && !whole.ends_with(b"\n") {
                    return Err(BodyError::CutOff(error()));
                }
                first_error.get_or_insert_with(error);
                Item::InvalidLine(line.into())
            }
        });
    }
    match first_error {
        Some(error) if items.iter().all(|item| matches!(item, Item::InvalidLine(_))) => Err(BodyError::Invalid(error)),
        _ => Ok(items),
    }
}

fn array(body: &Body, pointer: &str) -> Result<Items, BodyError> {
    let found = std::str::from_utf8(body).ok().and_then(|document| elements(document, pointer));
    if let Some(found) = found {
        return Ok(Items::Found(
            found.into_iter().map(|range| Item::Json(RawItem::at(body, range))).collect(),
        ));
    }
    parsed_array(body, pointer)
}

/// The same by a parser, which has the reasons.
fn parsed_array(body: &Body, pointer: &str) -> Result<Items, BodyError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(BodyError::CutOff("the response is empty".to_owned()));
    }
    let document: &RawValue = serde_json::from_slice(body).map_err(|e| {
        let error = syntax(body, &e);
        if e.is_eof() {
            BodyError::CutOff(error)
        } else {
            BodyError::Invalid(error)
        }
    })?;
    let found = raw_within(document, pointer);
    if let Some(items) = found.and_then(|found| serde_json::from_str::<Vec<&RawValue>>(found.get()).ok()) {
        let items = items.into_iter().map(|item| Item::Json(RawItem::part(body, item)));
        return Ok(Items::Found(items.collect()));
    }
    let none = match found.map(RawValue::get) {
        None => NoItems::Absent,
        Some("null") => NoItems::Null,
        Some("\"\"") => NoItems::EmptyText,
        Some(_) => NoItems::Other,
    };
    let problem = match pointer {
        "" => format!("the response is not an array (spec.source.http.items); it is {}", shape(body)),
        pointer => format!(
            "the response has no array at {pointer} (spec.source.http.items); it is {}",
            shape(body)
        ),
    };
    Ok(Items::None(none, problem))
}

fn syntax(body: &[u8], e: &serde_json::Error) -> String {
    if e.is_eof() {
        format!("the response is JSON that ends too early, after {} bytes", body.len())
    } else {
        let kind = kind_of_text(body).map_or_else(String::new, |kind| format!(", but {kind}"));
        format!("the response is not JSON{kind}: {e}")
    }
}

/// The first keys only: all values could take a hundred times the memory of the text.
#[allow(clippy::zero_sized_map_values)] // A set is not read from an object.
fn shape(body: &[u8]) -> String {
    let Ok(object) = serde_json::from_slice::<BTreeMap<String, IgnoredAny>>(body) else {
        return "no object".to_owned();
    };
    let keys: Vec<String> = object
        .keys()
        .take(LISTED_KEYS)
        .map(|key| truncate(key, LISTED_KEY_LENGTH))
        .collect();
    if keys.is_empty() {
        "an empty object".to_owned()
    } else {
        format!("an object with the keys {}", keys.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn json(body: &[u8]) -> Result<Vec<String>, String> {
        texts(body, Format::Json, "/results")
    }

    /// The items; those that are not JSON start with `!`.
    fn texts(body: &[u8], format: Format, pointer: &str) -> Result<Vec<String>, String> {
        let text = |item: &Item| match item {
            Item::Json(raw) => raw.get().to_owned(),
            Item::InvalidLine(line) => format!("!{}", line.escape_ascii()),
        };
        match items(&Body::new(body.to_vec()), format, pointer) {
            Ok(Items::Found(items)) => Ok(items.iter().map(text).collect()),
            Ok(Items::None(_, problem)) | Err(BodyError::CutOff(problem) | BodyError::Invalid(problem)) => Err(problem),
        }
    }

    #[test]
    fn items_are_found_where_the_spec_defines() {
        let all = |body: &str, format, pointer: &str| texts(body.as_bytes(), format, pointer);
        for (body, pointer) in [
            ("[1, {\"a\": 2}]", ""),
            ("{\"data\": {\"it/ems\": [1, {\"a\": 2}]}}", "/data/it~1ems"),
            ("[[], [1, {\"a\": 2}]]", "/1"),
        ] {
            assert_eq!(all(body, Format::Json, pointer).unwrap(), ["1", "{\"a\": 2}"], "{body}");
        }
        assert_eq!(all("1\n\n{\"a\": 2}\r\n", Format::Ndjson, "").unwrap(), ["1", "{\"a\": 2}"]);
        assert!(all("", Format::Ndjson, "").unwrap().is_empty());
        assert!(
            all("{}", Format::Json, "")
                .unwrap_err()
                .contains("not an array (spec.source.http.items); it is an empty object")
        );
        assert!(all("{\"a\": 1}", Format::Json, "/a/b").unwrap_err().contains("no array at /a/b"));
    }

    #[test]
    fn a_line_that_is_not_json_is_an_item() {
        for (body, expected) in [
            (&b"{\"a\": 1}\n{a: oops}\r\n\n2\n"[..], &["{\"a\": 1}", "!{a: oops}", "2"][..]),
            // The first, the last, and one that is not in UTF-8.
            (b"oops\n\xff\n1", &["!oops", "!\\xff", "1"]),
            (b"1\noops", &["1", "!oops"]),
            (b"1\n{} {}", &["1", "!{} {}"]),
            (b"1\n[\"\xff\"]", &["1", "![\\\"\\xff\\\"]"]),
            // It ends too soon, but the body continues, or has ended its line.
            (b"1\n[1,\n2", &["1", "![1,", "2"]),
            (b"1\n[1,\n", &["1", "![1,"]),
        ] {
            assert_eq!(texts(body, Format::Ndjson, "").unwrap(), expected, "{}", body.escape_ascii());
        }
    }

    #[test]
    fn a_body_that_is_cut_off_or_without_any_json_is_an_error() {
        for (body, expected) in [
            (
                "1\n{\"a\":",
                "line 2 of the response: the response is JSON that ends too early, after 7 bytes",
            ),
            (
                "1\noops\n\"secret",
                "line 3 of the response: the response is JSON that ends too early",
            ),
            ("1\ntru", "line 2 of the response: the response is JSON that ends too early"),
            (
                "\n<html>secret\n</html>\n",
                "line 2 of the response: the response is not JSON, but HTML: expected value",
            ),
            ("{\n  \"error\": \"secret\"\n}\n", "line 1 of the response: "),
        ] {
            let error = texts(body.as_bytes(), Format::Ndjson, "").unwrap_err();
            assert!(error.starts_with(expected) && !error.contains("secret"), "{body}: {error}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn items_are_those_that_a_parser_finds(start in 0..4_usize, parts in prop::collection::vec(part(), 0..8), end in 0..4_usize) {
            let start = ["", "[", "{\"results\": [", "{\"a\": {\"results\": ["][start];
            let end = ["", "]", "]}", "]}}"][end];
            let body = Body::new(format!("{start}{}{end}", parts.concat()).into_bytes());
            for pointer in ["", "/results", "/a/results"] {
                let (found, parsed) = (array(&body, pointer), parsed_array(&body, pointer));
                prop_assert_eq!(format!("{found:?}"), format!("{parsed:?}"), "{}", body.escape_ascii());
            }
        }
    }

    fn part() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec![
            "1",
            "1.50",
            "-",
            ",",
            ", ",
            "\"\u{e9}\"",
            "\"\\u00e9\"",
            "\"\\ud800\"",
            "null",
            "[]",
            "{}",
            "{\"a\": [1]}",
            "[[{}]]",
            "]",
            "}",
            "{",
            "[",
            "], \"results\": [",
            "\"results\": [1]",
            ": ",
            " \n",
            "\\",
            "\"",
            "01",
            "1e999",
        ])
    }

    #[test]
    fn items_are_as_they_were_served() {
        let found = json(b"{\"info\": {}, \"results\": [ {\"a\" :1.50}, 7 ]}").unwrap();
        assert_eq!(found, ["{\"a\" :1.50}", "7"]);
        assert!(json(b"{\"results\": []}").unwrap().is_empty());
    }

    #[test]
    fn the_error_of_a_body_without_items_names_the_problem_and_no_content() {
        for (body, expected) in [
            ("", "empty"),
            ("  \n", "empty"),
            ("<html>", "not JSON, but HTML: expected value at line 1 column 1"),
            ("{\"results\": [{\"a\":", "ends too early, after 18 bytes"),
            ("{\"results\": []} x", "not JSON: trailing characters"),
            (
                "{\"error\": \"secret\"}",
                "no array at /results (spec.source.http.items); it is an object with the keys error",
            ),
            ("{\"results\": \"secret\"}", "it is an object with the keys results"),
            ("{\"results\": null}", "it is an object with the keys results"),
            ("{}", "an empty object"),
            ("[1]", "no object"),
            ("\"secret\"", "no object"),
        ] {
            let error = json(body.as_bytes()).unwrap_err();
            assert!(error.contains(expected) && !error.contains("secret"), "{body}: {error}");
        }
        assert!(json(b"{\"results\": [\"\xff\"]}").is_err());
    }
}

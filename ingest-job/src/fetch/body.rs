//! The body of an answer: read within its bound, and taken apart into items.

use reqwest::Response;
use serde_json::{Map, Value, value::RawValue};
use userpipeline_api::Format;
use userpipeline_record::raw_at;

use crate::page::Raw;

/// Reads a body of at most `limit` bytes, counted after decompression: what is larger is not held, let alone unpacked.
pub async fn read(mut response: Response, limit: u64) -> Result<Vec<u8>, String> {
    let too_large = || format!("the answer is larger than {limit} bytes (spec.source.http.maxBodySize)");
    if response.content_length().is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if (body.len() + chunk.len()) as u64 > limit => return Err(too_large()),
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body),
            Err(e) => {
                return Err(format!(
                    "the answer was cut off after {} bytes: {}",
                    body.len(),
                    super::request::explained(e)
                ));
            }
        }
    }
}

/// The items of an answer: the array at `pointer`, or the lines. An error names what is wrong, by position and by keys, never by
/// content.
pub fn items(body: &[u8], format: Format, pointer: &str) -> Result<Vec<Raw>, String> {
    let syntax = |e: serde_json::Error| {
        if e.is_eof() {
            format!("the answer is JSON that ends too soon, after {} bytes", body.len())
        } else {
            format!("the answer is no JSON: {e}")
        }
    };
    if format == Format::Ndjson {
        let lines = body.split(|byte| *byte == b'\n').enumerate();
        let lines = lines.filter(|(_, line)| !line.iter().all(u8::is_ascii_whitespace));
        return lines
            .map(|(i, line)| serde_json::from_slice(line).map_err(|e| format!("line {} of the answer: {}", i + 1, syntax(e))))
            .collect();
    }
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err("the answer is empty".to_owned());
    }
    serde_json::from_slice::<&RawValue>(body).map_err(syntax)?;
    raw_at(body, pointer)
        .and_then(|found| serde_json::from_str(found.get()).ok())
        .ok_or_else(|| match pointer {
            "" => format!("the answer is no array: it is {}", shape(body)),
            pointer => format!("the answer has no array at {pointer}: it is {}", shape(body)),
        })
}

fn shape(body: &[u8]) -> String {
    let Ok(object) = serde_json::from_slice::<Map<String, Value>>(body) else {
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

    fn json(body: &[u8]) -> Result<Vec<Raw>, String> {
        items(body, Format::Json, "/results")
    }

    #[test]
    fn items_are_where_the_spec_says() {
        let all = |body: &str, format, pointer: &str| -> Result<Vec<String>, String> {
            Ok(items(body.as_bytes(), format, pointer)?
                .iter()
                .map(|raw| raw.get().to_owned())
                .collect())
        };
        for (body, pointer) in [
            ("[1, {\"a\": 2}]", ""),
            ("{\"data\": {\"it/ems\": [1, {\"a\": 2}]}}", "/data/it~1ems"),
            ("[[], [1, {\"a\": 2}]]", "/1"),
        ] {
            assert_eq!(all(body, Format::Json, pointer).unwrap(), ["1", "{\"a\": 2}"], "{body}");
        }
        assert_eq!(all("1\n\n{\"a\": 2}\r\n", Format::Ndjson, "").unwrap(), ["1", "{\"a\": 2}"]);
        assert!(all("", Format::Ndjson, "").unwrap().is_empty());
        let error = all("1\n{\"a\":", Format::Ndjson, "").unwrap_err();
        assert!(
            error.starts_with("line 2 of the answer: ") && error.contains("ends too soon"),
            "{error}"
        );
        assert!(all("{}", Format::Json, "").unwrap_err().contains("no array: it is an empty object"));
        assert!(all("{\"a\": 1}", Format::Json, "/a/b").unwrap_err().contains("no array at /a/b"));
    }

    #[test]
    fn items_are_as_they_were_served() {
        let found = json(b"{\"info\": {}, \"results\": [ {\"a\" :1.50}, 7 ]}").unwrap();
        assert_eq!(found.iter().map(|raw| raw.get()).collect::<Vec<_>>(), ["{\"a\" :1.50}", "7"]);
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

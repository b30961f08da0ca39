//! The body of an answer: read within its bound, and taken apart into items.

use reqwest::Response;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::page::Raw;

/// Where in an answer the items are.
const ITEMS: &str = "results";

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

/// The items of an answer. An error names what is wrong, by position and by keys, never by content.
pub fn items(body: &[u8]) -> Result<Vec<Raw>, String> {
    #[derive(Deserialize)]
    struct Answer {
        results: Vec<Raw>,
    }
    match serde_json::from_slice::<Answer>(body) {
        Ok(answer) => Ok(answer.results),
        Err(_) if body.iter().all(u8::is_ascii_whitespace) => Err("the answer is empty".to_owned()),
        Err(e) if e.is_eof() => Err(format!("the answer is JSON that ends too soon, after {} bytes", body.len())),
        Err(e) if e.is_syntax() => Err(format!("the answer is no JSON: {e}")),
        Err(_) => Err(format!("the answer has no array at /{ITEMS}: it is {}", shape(body))),
    }
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

    #[test]
    fn items_are_as_they_were_served() {
        let found = items(b"{\"info\": {}, \"results\": [ {\"a\" :1.50}, 7 ]}").unwrap();
        assert_eq!(found.iter().map(|raw| raw.get()).collect::<Vec<_>>(), ["{\"a\" :1.50}", "7"]);
        assert!(items(b"{\"results\": []}").unwrap().is_empty());
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
            let error = items(body.as_bytes()).unwrap_err();
            assert!(error.contains(says) && !error.contains("secret"), "{body}: {error}");
        }
        assert!(items(b"{\"results\": [\"\xff\"]}").is_err());
    }
}

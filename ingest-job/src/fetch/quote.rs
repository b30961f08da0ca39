//! What a message quotes of a response in error. Pure.

use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use serde_json::Value as Json;
use userpipeline_api::text::truncate;

/// The bytes of a response that a message quotes.
const QUOTED: usize = 200;
/// A shorter credential would mask ordinary words.
const LEAST_CREDENTIAL: usize = 4;
const MASK: &str = "***";
/// Where APIs have the text of an error, in this order.
const POINTERS: [&str; 9] = [
    "/errors/0/message",
    "/errors/0/detail",
    "/error/message",
    "/error_description",
    "/error",
    "/message",
    "/detail",
    "/title",
    "/errors/0",
];

/// The credentials of a request.
#[derive(Clone, Debug, Default)]
pub struct Credentials(Vec<String>);

impl Credentials {
    /// Those in the sensitive headers of a request.
    pub fn of(headers: &HeaderMap) -> Self {
        let sensitive = headers.values().filter(|value| value.is_sensitive());
        let mut found = Vec::new();
        for value in sensitive.filter_map(|value| value.to_str().ok()) {
            for word in value.split_ascii_whitespace() {
                found.push(word.to_owned());
                let pair = STANDARD.decode(word).ok().and_then(|bytes| String::from_utf8(bytes).ok());
                found.extend(
                    pair.iter()
                        .filter_map(|pair| pair.split_once(':'))
                        .map(|(_, password)| password.to_owned()),
                );
            }
        }
        // The longest first: one may contain another.
        found.retain(|word| word.len() >= LEAST_CREDENTIAL && !matches!(word.as_str(), "Bearer" | "Basic" | "Token"));
        found.sort_by_key(|word| std::cmp::Reverse(word.len()));
        Self(found)
    }

    fn mask(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, word| text.replace(word, MASK))
    }
}

/// The content type and the beginning of a body, to be appended to a message; nothing for an empty body.
pub fn quote(headers: &HeaderMap, body: &[u8], credentials: &Credentials) -> String {
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    if text.is_empty() {
        return String::new();
    }
    let content_type = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("no content type");
    let text = error_text(text.as_bytes()).unwrap_or_else(|| text.to_owned());
    format!(" ({content_type}: {})", shortened(&credentials.mask(&text)))
}

/// What a response reports as its error, to be appended to a message.
pub fn reported_error(body: &[u8]) -> String {
    error_text(body).map_or_else(String::new, |text| format!("; the source reports: {}", shortened(&text)))
}

fn error_text(body: &[u8]) -> Option<String> {
    let json: Json = serde_json::from_slice(body).ok()?;
    let text = POINTERS.iter().find_map(|pointer| json.pointer(pointer)?.as_str());
    text.filter(|text| !text.is_empty()).map(str::to_owned)
}

/// In one line.
fn shortened(text: &str) -> String {
    truncate(&text.split_whitespace().collect::<Vec<_>>().join(" "), QUOTED)
}

/// What a body that is not JSON is, if it can be recognised.
pub fn kind_of_text(body: &[u8]) -> Option<&'static str> {
    let start: String = String::from_utf8_lossy(&body[..body.len().min(512)])
        .trim_start()
        .to_ascii_lowercase();
    if start.starts_with("<!doctype html") || start.starts_with("<html") || start.starts_with("<head") || start.starts_with("<body") {
        return Some("HTML");
    }
    if start.starts_with('<') {
        return Some("XML");
    }
    let name = start.trim_start_matches("/**/").split('(').next().unwrap_or_default();
    let is_call = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_$.".contains(c));
    if is_call && start.trim_start_matches("/**/").len() > name.len() {
        return Some("JSONP");
    }
    if start.starts_with(['{', '[']) {
        return None;
    }
    let mut lines = start.lines().map(|line| line.matches([',', ';', '\t']).count());
    match (lines.next(), lines.next()) {
        (Some(first), Some(second)) if first > 0 && first == second => Some("CSV"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::{AUTHORIZATION, HeaderValue};

    use super::*;

    #[test]
    fn an_error_is_quoted_without_credentials() {
        let mut request = HeaderMap::new();
        let mut basic = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode("ann:hunter2"))).unwrap();
        basic.set_sensitive(true);
        request.insert(AUTHORIZATION, basic);
        let mut key = HeaderValue::from_static("key-1234");
        key.set_sensitive(true);
        request.insert("x-api-key", key);
        let credentials = Credentials::of(&request);
        let json = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        for (headers, body, expected) in [
            (&json, r#"{"error": {"message": "no key-1234"}}"#, " (application/json: no ***)"),
            (
                &json,
                r#"{"message": "bad password hunter2"}"#,
                " (application/json: bad password ***)",
            ),
            (&json, r#"{"code": 7}"#, r#" (application/json: {"code": 7})"#),
            (
                &json,
                r#"{"error": "invalid_client", "error_description": "unknown client"}"#,
                " (application/json: unknown client)",
            ),
            (&HeaderMap::new(), "a\n  b", " (no content type: a b)"),
            (&json, " \n", ""),
        ] {
            assert_eq!(quote(headers, body.as_bytes(), &credentials), expected, "{body}");
        }
        let long = quote(&json, "x".repeat(999).as_bytes(), &credentials);
        assert!(long.len() < 240, "{long}");
    }

    #[test]
    fn other_formats_are_recognised() {
        for (body, expected) in [
            ("<!DOCTYPE html>\n<p>", Some("HTML")),
            ("\n<html lang=en>", Some("HTML")),
            ("<?xml version=\"1.0\"?><a/>", Some("XML")),
            ("<rss>", Some("XML")),
            ("callback({\"a\": 1})", Some("JSONP")),
            ("/**/jQuery.cb([1])", Some("JSONP")),
            ("id,name\n1,Ann\n", Some("CSV")),
            ("id;name\n1;Ann\n", Some("CSV")),
            ("{\"a\": 1,\n\"b\"; 2}", None),
            ("oops", None),
            ("Service unavailable, sorry", None),
            ("", None),
        ] {
            assert_eq!(kind_of_text(body.as_bytes()), expected, "{body}");
        }
    }
}

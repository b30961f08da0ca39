//! JSON pointers (RFC 6901) into the text of a document.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

/// The text at a JSON pointer.
pub fn raw_at<'a>(document: &'a [u8], pointer: &str) -> Option<&'a RawValue> {
    let mut found: &RawValue = serde_json::from_slice(document).ok()?;
    for token in pointer.split('/').skip(1) {
        let token = token.replace("~1", "/").replace("~0", "~");
        found = if found.get().starts_with('[') {
            let items: Vec<&RawValue> = serde_json::from_str(found.get()).ok()?;
            items.get(token.parse::<usize>().ok()?).copied()?
        } else {
            // Owned, because keys may have escapes. The last of equal keys wins.
            let mut map: BTreeMap<String, &RawValue> = serde_json::from_str(found.get()).ok()?;
            map.remove(&token)?
        };
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_finds_the_text_of_a_value() {
        let document = br#"{"a/b": [1.10, {"\u0063": 1e2 }], "twice": 1, "twice": 2}"#;
        let at = |pointer| raw_at(document, pointer).map(RawValue::get);
        for (pointer, found) in [
            ("/a~1b/0", Some("1.10")),
            ("/a~1b/1/c", Some("1e2")),
            ("/twice", Some("2")),
            ("/a~1b/2", None),
            ("/a~1b/x", None),
            ("/twice/x", None),
            ("/none", None),
        ] {
            assert_eq!(at(pointer), found, "{pointer}");
        }
    }
}

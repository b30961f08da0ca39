//! The elements of an array within a document, found in one pass.

use std::{borrow::Cow, ops::Range};

use crate::{pointer::tokens, scan::Scanner};

/// Where the elements of the array at a JSON pointer are in a document, all of which is JSON. None if a parser has to decide whether
/// there is such an array: the document is not JSON, for example, or has a name twice.
pub fn elements(document: &str, pointer: &str) -> Option<Vec<Range<usize>>> {
    let path: Vec<Cow<'_, str>> = tokens(pointer).collect();
    let mut scanner = Scanner::new(document);
    let found = walk(&mut scanner, &path)?;
    scanner.is_at_end().then_some(found)
}

/// Recursive: a pointer has few names.
fn walk(scanner: &mut Scanner<'_>, path: &[Cow<'_, str>]) -> Option<Vec<Range<usize>>> {
    let opening = scanner.peek()?;
    let Some((first, rest)) = path.split_first() else {
        return if opening == b'[' { array(scanner) } else { None };
    };
    if opening != b'{' {
        return None;
    }
    let mut found = None;
    let mut more = scanner.open(b'}')?;
    while more {
        let name = scanner.name()?;
        if name.has_escapes {
            return None;
        }
        if name.raw == first {
            if found.is_some() {
                return None;
            }
            found = Some(walk(scanner, rest)?);
        } else {
            scanner.value()?;
        }
        more = scanner.has_more(b'}')?;
    }
    found
}

fn array(scanner: &mut Scanner<'_>) -> Option<Vec<Range<usize>>> {
    let mut elements = Vec::new();
    let mut more = scanner.open(b']')?;
    while more {
        let length = scanner.value()?.len();
        elements.push(scanner.position() - length..scanner.position());
        more = scanner.has_more(b']')?;
    }
    Some(elements)
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;
    use crate::raw_at;

    fn texts<'a>(document: &'a str, pointer: &str) -> Option<Vec<&'a str>> {
        Some(elements(document, pointer)?.into_iter().map(|range| &document[range]).collect())
    }

    #[test]
    fn elements_are_those_that_a_parser_finds() {
        for (document, pointer) in [
            ("[]", ""),
            (" [ 1 , {\"a\" : [2]} ,\"x\"] ", ""),
            (
                "{\"info\": {\"results\": [0]}, \"results\": [1, [2], {}], \"more\": null}",
                "/results",
            ),
            ("{\"a/b\": {\"~\": [\"\u{e9}\", \"\\u00e9\"]}}", "/a~1b/~0"),
            ("{\"\": [1.10]}", "/"),
        ] {
            let parsed: Vec<&RawValue> = serde_json::from_str(raw_at(document.as_bytes(), pointer).unwrap().get()).unwrap();
            let parsed: Vec<&str> = parsed.into_iter().map(RawValue::get).collect();
            assert_eq!(texts(document, pointer), Some(parsed), "{document}");
        }
    }

    #[test]
    fn a_parser_decides_about_a_document_that_is_not_plain() {
        for (document, pointer) in [
            ("", ""),
            ("{\"results\": [1]", "/results"),
            ("{\"results\": [1]} x", "/results"),
            ("{\"results\": [1], \"x\": oops}", "/results"),
            ("{\"results\": {}}", "/results"),
            ("{\"results\": null}", "/results"),
            ("{\"other\": [1]}", "/results"),
            ("[[1]]", "/0"),
            ("{\"results\": [1], \"results\": [2]}", "/results"),
            ("{\"result\\u0073\": [1], \"results\": [2]}", "/results"),
        ] {
            assert_eq!(elements(document, pointer), None, "{document}");
        }
    }
}

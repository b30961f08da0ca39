//! A response without the array of items: an empty page, or a mistake.

use userpipeline_record::{Outline, OutlineValue};

use crate::fetch::body::NoItems;

/// The arrays that a message lists.
const LISTED: usize = 5;

/// What else the response has that shows what the missing array means.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::struct_excessive_bools)] // Independent observations.
pub struct Evidence {
    pub is_first: bool,
    /// It has the next cursor or URL.
    pub has_next: bool,
    /// `endWhen` has a value, or the response has the total.
    pub has_end: bool,
    /// The spec declares the end in another way.
    pub declares_end: bool,
}

/// How to read a response without the array of items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// A page without items.
    Empty,
    /// The spec is wrong: the message lists the arrays of the response.
    Mistake(String),
    /// The response is wrong.
    Wrong(String),
}

/// Decides between an empty page and a mistake. `problem` describes what is missing.
pub fn read(found: NoItems, problem: &str, outline: &Outline, evidence: Evidence) -> Reading {
    let has_evidence = evidence.has_next || evidence.has_end;
    // Next to a cursor, APIs also have lists that are empty and not of items.
    let mut arrays = outline.arrays().filter(|(_, size)| *size > 0 || !has_evidence).peekable();
    if evidence.is_first && matches!(found, NoItems::Absent | NoItems::Other) && arrays.peek().is_some() {
        let listed: Vec<String> = arrays.take(LISTED).map(|(pointer, size)| describe(pointer, size)).collect();
        return Reading::Mistake(format!("{problem}; it has arrays at {}", listed.join(", ")));
    }
    let is_empty = match found {
        NoItems::Other => false,
        _ if has_error(outline) => false,
        NoItems::Absent => has_evidence,
        NoItems::Null | NoItems::EmptyText => has_evidence || evidence.declares_end,
    };
    if is_empty {
        Reading::Empty
    } else {
        Reading::Wrong(problem.to_owned())
    }
}

fn describe(pointer: &str, size: usize) -> String {
    let items = if size == 1 { "item" } else { "items" };
    match pointer {
        "" => format!("\"\" ({size} {items}: the response itself)"),
        pointer => format!("{pointer} ({size} {items})"),
    }
}

/// Whether a response reports an error: a status of 200 does not exclude it.
fn has_error(outline: &Outline) -> bool {
    outline.entries.iter().any(|(pointer, value)| {
        let is_error = matches!(
            pointer.to_ascii_lowercase().as_str(),
            "/error" | "/errors" | "/fault" | "/exception"
        );
        let is_set = match value {
            OutlineValue::Scalar(json) => {
                !matches!(json, serde_json::Value::Null | serde_json::Value::Bool(false)) && json != "" && json != 0
            }
            OutlineValue::Array(size) => *size > 0,
            OutlineValue::Object => true,
        };
        is_error && is_set
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_array_is_an_empty_page_only_next_to_evidence() {
        let first = Evidence {
            is_first: true,
            ..Evidence::default()
        };
        let later = Evidence::default();
        let with_next = |evidence| Evidence {
            has_next: true,
            ..evidence
        };
        let with_end = |evidence| Evidence { has_end: true, ..evidence };
        let declared = |evidence| Evidence {
            declares_end: true,
            ..evidence
        };
        let mistake = |text: &str| Reading::Mistake(format!("p; it has arrays at {text}"));
        let wrong = || Reading::Wrong("p".to_owned());
        for (found, body, evidence, expected) in [
            (NoItems::Absent, "{}", first, wrong()),
            (NoItems::Absent, "{}", with_next(first), Reading::Empty),
            (NoItems::Absent, "{}", with_end(later), Reading::Empty),
            (NoItems::Absent, "{}", declared(later), wrong()),
            (NoItems::Null, "{}", declared(later), Reading::Empty),
            (NoItems::EmptyText, "{}", with_next(first), Reading::Empty),
            (NoItems::Null, "{}", later, wrong()),
            (
                NoItems::Absent,
                r#"{"data": [1, 2], "links": []}"#,
                first,
                mistake("/data (2 items), /links (0 items)"),
            ),
            (
                NoItems::Absent,
                r#"{"data": [1], "links": []}"#,
                with_next(first),
                mistake("/data (1 item)"),
            ),
            (NoItems::Absent, r#"{"links": []}"#, with_next(first), Reading::Empty),
            (
                NoItems::Absent,
                "[1, 2, 3, 4, 5]",
                first,
                mistake("\"\" (5 items: the response itself)"),
            ),
            (
                NoItems::Other,
                r#"{"a": {"b": [1, 2]}}"#,
                with_next(first),
                mistake("/a/b (2 items)"),
            ),
            (NoItems::Other, "{}", with_next(later), wrong()),
            // An error with status 200.
            (NoItems::Absent, r#"{"error": "busy"}"#, with_end(later), wrong()),
            (NoItems::Null, r#"{"errors": [{}]}"#, with_next(later), wrong()),
            (NoItems::Null, r#"{"error": null, "errors": []}"#, with_next(later), Reading::Empty),
        ] {
            assert_eq!(
                read(found, "p", &Outline::of(body.as_bytes()), evidence),
                expected,
                "{found:?} {body} {evidence:?}"
            );
        }
    }
}

//! Whether a response looks like the first of several pages, for a spec that does not follow them.

use reqwest::header::HeaderMap;
use serde_json::Value as Json;
use userpipeline_record::Outline;

use super::{answer::Answer, link::next_link};

/// Members with the URL or the number of the next page, in lower case and without `_`, `-`, `.` and `@`.
const NEXT: [&str; 9] = [
    "next",
    "nexturl",
    "nextlink",
    "odatanextlink",
    "nextpage",
    "nextpageurl",
    "nexthref",
    "nextpagelink",
    "nexturi",
];
const TOKENS: [&str; 9] = [
    "nextpagetoken",
    "nexttoken",
    "nextcursor",
    "nextoffset",
    "endcursor",
    "continuationtoken",
    "continuation",
    "nextmarker",
    "scrollid",
];
const MORE: [&str; 6] = ["hasmore", "hasnext", "hasnextpage", "moreresults", "hasmoreitems", "hasmorepages"];
const TOTALS: [&str; 14] = [
    "total",
    "totalcount",
    "totalresults",
    "totalitems",
    "totalelements",
    "totalhits",
    "totalrecords",
    "totalrows",
    "count",
    "resultcount",
    "recordcount",
    "numfound",
    "odatacount",
    "availablecount",
];
const PAGES: [&str; 6] = ["totalpages", "pages", "pagecount", "numpages", "lastpage", "pagestotal"];
const TOTAL_HEADERS: [&str; 4] = ["x-total-count", "x-total", "x-wp-total", "total-count"];
const PAGES_HEADERS: [&str; 3] = ["x-total-pages", "x-wp-totalpages", "total-pages"];

/// What shows that more pages exist, and the spec that would follow it. Names and totals only: other values may be secret.
pub fn looks_paged(answer: &Answer, items: usize) -> Option<String> {
    let outline = Outline::of(&answer.body);
    link_header(answer)
        .or_else(|| next_member(&outline))
        .or_else(|| header_total(&answer.headers, items))
        .or_else(|| total(&outline, items))
}

fn link_header(answer: &Answer) -> Option<String> {
    let has_next = matches!(next_link(&answer.headers, &answer.url), Ok(Some(_)));
    has_next.then(|| "the response has a header Link with rel=\"next\": set pagination: {type: Link}".to_owned())
}

fn next_member(outline: &Outline) -> Option<String> {
    let found = |names: &[&str], fits: fn(&Json) -> bool| {
        let mut scalars = outline.scalars();
        scalars.find(|(pointer, json)| names.contains(&name(pointer).as_str()) && fits(json))
    };
    if let Some((pointer, value)) = found(&NEXT, is_set) {
        return Some(if value.as_str().is_some_and(is_url) {
            format!(
                "the response has the URL of a next page at {pointer}: set pagination: {{type: NextUrl, nextUrlFrom: {}}}",
                quoted(pointer)
            )
        } else {
            cursor(pointer)
        });
    }
    if let Some((pointer, _)) = found(&TOKENS, is_set) {
        return Some(cursor(pointer));
    }
    let (pointer, _) = found(&MORE, |json| *json == Json::Bool(true))?;
    Some(format!(
        "the response has true at {pointer}, so it has more pages: set pagination with a type, and endWhen: \"!answer{}\"",
        member(pointer)
    ))
}

fn cursor(pointer: &str) -> String {
    format!(
        "the response has a cursor for a next page at {pointer}: set pagination: {{type: Cursor, cursorFrom: {}, parameter: NAME}} with the API's query parameter",
        quoted(pointer)
    )
}

fn header_total(headers: &HeaderMap, items: usize) -> Option<String> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    let above = |names: &[&'static str], most: usize| {
        let mut named = names.iter().filter_map(|name| Some((*name, number(name)?)));
        named.find(|(_, number)| *number > most as u64)
    };
    if let Some((name, total)) = above(&TOTAL_HEADERS, items) {
        return Some(format!(
            "the header {name} has a total of {total}, and the response {items} items: set pagination with a type, and totalFromHeader: {name}"
        ));
    }
    let (name, pages) = above(&PAGES_HEADERS, 1)?;
    Some(format!("the header {name} has {pages} pages: set pagination with a type"))
}

fn total(outline: &Outline, items: usize) -> Option<String> {
    let above = |names: &[&str], most: usize| {
        let mut scalars = outline.scalars();
        scalars.find_map(|(pointer, json)| {
            let number = json.as_u64().or_else(|| json.as_str()?.parse().ok())?;
            (names.contains(&name(pointer).as_str()) && number > most as u64).then_some((pointer, number))
        })
    };
    if let Some((pointer, total)) = above(&TOTALS, items) {
        return Some(format!(
            "the response has a total of {total} at {pointer}, and {items} items: set pagination with a type, and totalFrom: {}",
            quoted(pointer)
        ));
    }
    let (pointer, pages) = above(&PAGES, 1)?;
    Some(format!(
        "the response has {pages} pages at {pointer}: set pagination: {{type: Page, parameter: NAME, endWhen: \"page >= answer{}\"}} with the API's query parameter",
        member(pointer)
    ))
}

/// The last name of a pointer that says something, without case and punctuation: `/_links/next/href` is `next`.
fn name(pointer: &str) -> String {
    let mut names = pointer.rsplit('/');
    let last = names.next().unwrap_or_default();
    let parent = names.next().unwrap_or_default();
    let name = match (last, parent) {
        ("href" | "url" | "uri" | "cursor" | "token", "next") => "next",
        ("after", "cursors") => "nextcursor",
        ("value", "total") => "total",
        _ => last,
    };
    name.chars()
        .filter(char::is_ascii_alphanumeric)
        .collect::<String>()
        .to_ascii_lowercase()
}

fn is_set(json: &Json) -> bool {
    match json {
        Json::String(text) => !text.is_empty(),
        Json::Number(_) => true,
        _ => false,
    }
}

fn is_url(text: &str) -> bool {
    ["http://", "https://", "/", "?"].iter().any(|start| text.starts_with(start))
}

/// A pointer as YAML.
fn quoted(pointer: &str) -> String {
    if pointer.chars().all(|c| c.is_ascii_alphanumeric() || "/_-".contains(c)) {
        pointer.to_owned()
    } else {
        format!("\"{pointer}\"")
    }
}

/// A pointer as CEL.
fn member(pointer: &str) -> String {
    let names = pointer.split('/').skip(1).map(|name| name.replace("~1", "/").replace("~0", "~"));
    let step = |name: String| {
        let is_name = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        match name.parse::<usize>() {
            Ok(index) => format!("[{index}]"),
            Err(_) if is_name => format!(".{name}"),
            Err(_) => format!("['{name}']"),
        }
    };
    names.map(step).collect()
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;

    use super::*;
    use crate::{fetch::pagination::Meaning, raw_item::Body};

    fn hint(headers: &[(&'static str, &str)], body: &str, items: usize) -> Option<String> {
        looks_paged(
            &Answer {
                status: StatusCode::OK,
                headers: headers
                    .iter()
                    .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
                    .collect(),
                url: "http://a/x".parse().unwrap(),
                body: Body::new(body.as_bytes().to_vec()),
                meaning: Meaning::Page,
            },
            items,
        )
    }

    #[test]
    fn a_response_with_more_pages_shows_how_to_follow_them() {
        for (headers, body, expected) in [
            (&[("link", "<?page=2>; rel=next")][..], "[1]", "set pagination: {type: Link}"),
            (
                &[],
                r#"{"next": "https://secret.example/2"}"#,
                "at /next: set pagination: {type: NextUrl, nextUrlFrom: /next}",
            ),
            (&[], r#"{"links": {"next": "/x?page=2"}}"#, "nextUrlFrom: /links/next}"),
            (
                &[],
                r#"{"_links": {"next": {"href": "?page=2"}}}"#,
                "nextUrlFrom: /_links/next/href}",
            ),
            (
                &[],
                r#"{"@odata.nextLink": "https://secret.example"}"#,
                "nextUrlFrom: \"/@odata.nextLink\"}",
            ),
            (
                &[],
                r#"{"paging": {"next": "https://secret.example"}}"#,
                "nextUrlFrom: /paging/next}",
            ),
            (&[], r#"{"nextPageToken": "secret"}"#, "{type: Cursor, cursorFrom: /nextPageToken, "),
            (&[], r#"{"next": 2}"#, "{type: Cursor, cursorFrom: /next, "),
            (
                &[],
                r#"{"response_metadata": {"next_cursor": "secret"}}"#,
                "cursorFrom: /response_metadata/next_cursor,",
            ),
            (
                &[],
                r#"{"paging": {"cursors": {"after": "secret"}}}"#,
                "cursorFrom: /paging/cursors/after,",
            ),
            (&[], r#"{"has_more": true}"#, "endWhen: \"!answer.has_more\""),
            (&[("x-total-count", "3")], "[1, 2]", "totalFromHeader: x-total-count"),
            (&[("x-wp-totalpages", "2")], "[1, 2]", "2 pages"),
            (&[], r#"{"info": {"count": 826}}"#, "a total of 826 at /info/count, and 2 items"),
            (&[], r#"[{"pages": 6}, [1]]"#, "endWhen: \"page >= answer[0].pages\""),
        ] {
            let hint = hint(headers, body, 2).unwrap_or_else(|| panic!("{body}"));
            assert!(hint.contains(expected) && !hint.contains("secret"), "{hint}");
        }
    }

    #[test]
    fn a_response_with_everything_shows_nothing() {
        for (headers, body) in [
            (
                &[][..],
                r#"{"results": [1, 2], "info": {"seed": "a", "results": 2, "page": 1, "version": "1.4"}}"#,
            ),
            (
                &[("link", "<?page=1>; rel=last")],
                r#"{"next": null, "count": 2, "total_pages": 1}"#,
            ),
            (&[("x-total-count", "2")], r#"{"next": "", "has_more": false, "nextPageToken": ""}"#),
            (&[], r#"{"items": [{"next": "/x", "total": 7}]}"#),
            (&[], r#"{"next": false}"#),
        ] {
            assert_eq!(hint(headers, body, 2), None, "{body}");
        }
    }
}

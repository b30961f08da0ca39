//! How one page leads to the next. Pure.

use reqwest::{
    Url,
    header::{HeaderMap, LINK},
};
use serde_json::Value;
use userpipeline_api::{Pagination, PaginationType};

/// Where a run is in what the source has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Position {
    /// At the beginning.
    First,
    /// Where a page's number or an offset say so.
    Number(i64),
    /// Where a cursor says so.
    Cursor(String),
    /// At an address that the source gave.
    Address(Url),
}

/// What comes behind a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another one.
    At(Position),
    /// Nothing.
    End,
}

/// How one page leads to the next.
pub struct Paging {
    kind: PaginationType,
    parameter: String,
    start: Option<i64>,
    cursor_from: String,
}

impl Paging {
    /// As the spec says.
    pub fn of(pagination: &Pagination) -> Self {
        Self {
            kind: pagination.kind,
            parameter: pagination.parameter.clone().unwrap_or_default(),
            start: pagination.start,
            cursor_from: pagination.cursor_from.clone().unwrap_or_default(),
        }
    }

    /// Where a run begins.
    pub fn first(&self) -> Position {
        match self.kind {
            PaginationType::Page => Position::Number(self.start.unwrap_or(1)),
            PaginationType::Offset => Position::Number(self.start.unwrap_or(0)),
            _ => Position::First,
        }
    }

    /// The address of a page.
    pub fn address(&self, url: &Url, at: &Position) -> Url {
        let value = match at {
            Position::First => return url.clone(),
            Position::Address(url) => return url.clone(),
            Position::Number(number) => number.to_string(),
            Position::Cursor(cursor) => cursor.clone(),
        };
        let mut url = url.clone();
        // Given once: what the address has of it is for the first page.
        let others: Vec<(String, String)> = url
            .query_pairs()
            .filter(|(name, _)| *name != self.parameter)
            .map(|(n, v)| (n.into(), v.into()))
            .collect();
        url.query_pairs_mut()
            .clear()
            .extend_pairs(others)
            .append_pair(&self.parameter, &value);
        url
    }

    /// What comes behind the page at `at`, which had so many items; an error says what is wrong with the answer.
    pub fn next(&self, at: &Position, asked: &Url, items: usize, headers: &HeaderMap, answer: &[u8]) -> Result<Next, String> {
        let number = |more: i64| match at {
            Position::Number(number) => Next::At(Position::Number(number.saturating_add(more))),
            _ => Next::End,
        };
        Ok(match self.kind {
            PaginationType::Repeat => Next::At(Position::First),
            PaginationType::Single => Next::End,
            PaginationType::Page | PaginationType::Offset if items == 0 => Next::End,
            PaginationType::Page => number(1),
            PaginationType::Offset => number(i64::try_from(items).unwrap_or(i64::MAX)),
            PaginationType::Cursor => {
                match text_at(answer, &self.cursor_from).map_err(|e| format!("spec.source.http.pagination.cursorFrom: {e}"))? {
                    None => Next::End,
                    Some(cursor) if *at == Position::Cursor(cursor.clone()) => {
                        return Err(format!(
                            "the cursor at {} is the one that was sent: it leads nowhere",
                            self.cursor_from
                        ));
                    }
                    Some(cursor) => Next::At(Position::Cursor(cursor)),
                }
            }
            PaginationType::Link => match next_link(headers, asked)? {
                None => Next::End,
                Some(url) if url == *asked => return Err("the header Link with rel=\"next\" leads to the same page".to_owned()),
                Some(url) => Next::At(Position::Address(url)),
            },
        })
    }
}

/// The text or number that a document has at a JSON pointer; none where it has nothing there, null, or an empty text.
pub fn text_at(answer: &[u8], pointer: &str) -> Result<Option<String>, String> {
    let Some(found) = userpipeline_record::raw_at(answer, pointer) else {
        return Ok(None);
    };
    match serde_json::from_str::<Value>(found.get()) {
        Ok(Value::Null) => Ok(None),
        Ok(Value::String(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
        Ok(Value::Number(number)) => Ok(Some(number.to_string())),
        _ => Err(format!("what is at {pointer} is neither text nor a number")),
    }
}

/// The address in `Link: <https://…>; rel="next"` (RFC 8288).
fn next_link(headers: &HeaderMap, asked: &Url) -> Result<Option<Url>, String> {
    let links = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    for link in links.flat_map(|links| {
        links
            .split(", ")
            .flat_map(|part| part.split(",<").map(str::to_owned))
            .collect::<Vec<_>>()
    }) {
        let Some((target, parameters)) = link.split_once('>') else {
            continue;
        };
        let is_next = parameters.split(';').any(|parameter| {
            let (name, value) = parameter.trim().split_once('=').unwrap_or_default();
            name.trim().eq_ignore_ascii_case("rel")
                && value
                    .trim()
                    .trim_matches('"')
                    .split(' ')
                    .any(|rel| rel.eq_ignore_ascii_case("next"))
        });
        if is_next {
            let target = target.trim().trim_start_matches('<');
            let url = asked
                .join(target)
                .map_err(|e| format!("the header Link with rel=\"next\" has no address: {e}"))?;
            return Ok(Some(url));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn paging(spec: Value) -> Paging {
        Paging::of(&serde_json::from_value(spec).unwrap())
    }

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    /// The addresses of a run's pages, where the source answers with so many items, headers and bodies.
    fn walk(paging: &Paging, answers: &[(usize, &str, Value)]) -> Result<Vec<String>, String> {
        let base = url("http://a/x?size=2");
        let (mut at, mut asked) = (paging.first(), Vec::new());
        for (items, link, body) in answers {
            let address = paging.address(&base, &at);
            asked.push(address.to_string());
            let headers = HeaderMap::from_iter((!link.is_empty()).then(|| (LINK, link.parse().unwrap())));
            match paging.next(&at, &address, *items, &headers, body.to_string().as_bytes())? {
                Next::At(next) => at = next,
                Next::End => return Ok(asked),
            }
        }
        asked.push("…".to_owned());
        Ok(asked)
    }

    #[test]
    fn pages_follow_each_other_until_there_is_none() {
        let none = || json!({});
        for (spec, answers, expected) in [
            (
                json!({}),
                vec![(2, "", none()), (2, "", none())],
                vec!["http://a/x?size=2", "http://a/x?size=2", "…"],
            ),
            (json!({"type": "Single"}), vec![(2, "", none())], vec!["http://a/x?size=2"]),
            (
                json!({"type": "Page", "parameter": "page"}),
                vec![(2, "", none()), (1, "", none()), (0, "", none())],
                vec!["http://a/x?size=2&page=1", "http://a/x?size=2&page=2", "http://a/x?size=2&page=3"],
            ),
            (
                json!({"type": "Page", "parameter": "size", "start": 0}),
                vec![(2, "", none())],
                vec!["http://a/x?size=0", "…"],
            ),
            (
                json!({"type": "Offset", "parameter": "offset"}),
                vec![(2, "", none()), (1, "", none()), (0, "", none())],
                vec![
                    "http://a/x?size=2&offset=0",
                    "http://a/x?size=2&offset=2",
                    "http://a/x?size=2&offset=3",
                ],
            ),
            (
                json!({"type": "Cursor", "parameter": "after", "cursorFrom": "/meta/next"}),
                vec![
                    (0, "", json!({"meta": {"next": "a b&c"}})),
                    (2, "", json!({"meta": {"next": 7}})),
                    (2, "", json!({"meta": {"next": ""}})),
                ],
                vec!["http://a/x?size=2", "http://a/x?size=2&after=a+b%26c", "http://a/x?size=2&after=7"],
            ),
            (
                json!({"type": "Cursor", "parameter": "after", "cursorFrom": "/meta/next"}),
                vec![(2, "", none())],
                vec!["http://a/x?size=2"],
            ),
            (
                json!({"type": "Link"}),
                vec![
                    (2, r#"<http://a/x?p=1>; rel="prev", </y?p=3>; title="x"; rel="next last""#, none()),
                    (2, "<z>;rel=next", none()),
                    (2, r#"<http://a/x?p=1>; rel="first""#, none()),
                ],
                vec!["http://a/x?size=2", "http://a/y?p=3", "http://a/z"],
            ),
        ] {
            let paging = paging(spec.clone());
            assert_eq!(walk(&paging, &answers).unwrap(), expected, "{spec}");
        }
    }

    #[test]
    fn what_leads_nowhere_is_an_error() {
        let by_cursor = paging(json!({"type": "Cursor", "parameter": "after", "cursorFrom": "/next"}));
        let same = || (2, "", json!({"next": "a"}));
        assert!(walk(&by_cursor, &[same(), same()]).unwrap_err().contains("leads nowhere"));
        assert!(
            walk(&by_cursor, &[(2, "", json!({"next": {}}))])
                .unwrap_err()
                .contains("neither text nor a number")
        );
        let by_link = paging(json!({"type": "Link"}));
        assert!(
            walk(&by_link, &[(2, "<http://a/x?size=2>; rel=next", json!({}))])
                .unwrap_err()
                .contains("the same page")
        );
    }
}

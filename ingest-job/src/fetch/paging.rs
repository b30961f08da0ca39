//! Pagination: how one page leads to the next. Pure.

use reqwest::{
    Url,
    header::{HeaderMap, LINK},
};
use serde_json::Value;
use userpipeline_api::{Pagination, PaginationType};

/// The position of a page in the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Position {
    First,
    /// A page number or an offset.
    Number(i64),
    Cursor(String),
    /// A URL from the header `Link`.
    Url(Url),
}

/// What follows a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    At(Position),
    End,
}

pub struct Paging {
    kind: PaginationType,
    parameter: String,
    start: Option<i64>,
    cursor_from: String,
}

impl Paging {
    pub fn of(pagination: &Pagination) -> Self {
        Self {
            kind: pagination.kind,
            parameter: pagination.parameter.clone().unwrap_or_default(),
            start: pagination.start,
            cursor_from: pagination.cursor_from.clone().unwrap_or_default(),
        }
    }

    /// The position at which a run starts.
    pub fn first(&self) -> Position {
        match self.kind {
            PaginationType::Page => Position::Number(self.start.unwrap_or(1)),
            PaginationType::Offset => Position::Number(self.start.unwrap_or(0)),
            _ => Position::First,
        }
    }

    /// The URL of a page.
    pub fn url(&self, url: &Url, position: &Position) -> Url {
        let value = match position {
            Position::First => return url.clone(),
            Position::Url(url) => return url.clone(),
            Position::Number(number) => number.to_string(),
            Position::Cursor(cursor) => cursor.clone(),
        };
        let mut url = url.clone();
        // The URL may set the parameter for the first page; it is replaced.
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

    /// What follows the page at `position`, which was requested at `url` and had so many items.
    pub fn next(&self, position: &Position, url: &Url, items: usize, headers: &HeaderMap, body: &[u8]) -> Result<Next, String> {
        let advance_by = |number: i64| match position {
            Position::Number(position) => Next::At(Position::Number(position.saturating_add(number))),
            _ => Next::End,
        };
        match self.kind {
            PaginationType::Repeat => Ok(Next::At(Position::First)),
            PaginationType::Single => Ok(Next::End),
            PaginationType::Page | PaginationType::Offset if items == 0 => Ok(Next::End),
            PaginationType::Page => Ok(advance_by(1)),
            PaginationType::Offset => Ok(advance_by(i64::try_from(items).unwrap_or(i64::MAX))),
            PaginationType::Cursor => self.next_cursor(position, body),
            PaginationType::Link => match next_link(headers, url)? {
                None => Ok(Next::End),
                Some(next) if next == *url => Err("the header Link with rel=\"next\" leads to the same page".to_owned()),
                Some(next) => Ok(Next::At(Position::Url(next))),
            },
        }
    }

    fn next_cursor(&self, position: &Position, body: &[u8]) -> Result<Next, String> {
        let cursor = text_at(body, &self.cursor_from).map_err(|e| format!("spec.source.http.pagination.cursorFrom: {e}"))?;
        match cursor.map(Position::Cursor) {
            None => Ok(Next::End),
            Some(cursor) if cursor == *position => Err(format!(
                "the response has at {} the cursor of its own request, which leads to the same page (spec.source.http.pagination.cursorFrom)",
                self.cursor_from
            )),
            Some(cursor) => Ok(Next::At(cursor)),
        }
    }
}

/// The text or number at a JSON pointer of a document; none if it is absent, null or an empty text.
pub fn text_at(document: &[u8], pointer: &str) -> Result<Option<String>, String> {
    let Some(found) = userpipeline_record::raw_at(document, pointer) else {
        return Ok(None);
    };
    match serde_json::from_str::<Value>(found.get()) {
        Ok(Value::Null) => Ok(None),
        Ok(Value::String(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
        Ok(Value::Number(number)) => Ok(Some(number.to_string())),
        _ => Err(format!("the value at {pointer} is neither text nor a number")),
    }
}

/// The URL in `Link: <https://…>; rel="next"` (RFC 8288).
fn next_link(headers: &HeaderMap, requested: &Url) -> Result<Option<Url>, String> {
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
            let url = requested
                .join(target)
                .map_err(|e| format!("the header Link with rel=\"next\" has no valid URL: {e}"))?;
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

    /// The URLs of a run's pages, for responses with so many items, with headers and bodies.
    fn walk(paging: &Paging, responses: &[(usize, &str, Value)]) -> Result<Vec<String>, String> {
        let base = url("http://a/x?size=2");
        let (mut position, mut urls) = (paging.first(), Vec::new());
        for (items, link, body) in responses {
            let requested = paging.url(&base, &position);
            urls.push(requested.to_string());
            let headers = HeaderMap::from_iter((!link.is_empty()).then(|| (LINK, link.parse().unwrap())));
            match paging.next(&position, &requested, *items, &headers, body.to_string().as_bytes())? {
                Next::At(next) => position = next,
                Next::End => return Ok(urls),
            }
        }
        urls.push("…".to_owned());
        Ok(urls)
    }

    #[test]
    fn pages_follow_each_other_to_the_last_one() {
        let none = || json!({});
        for (spec, responses, expected) in [
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
            assert_eq!(walk(&paging, &responses).unwrap(), expected, "{spec}");
        }
    }

    #[test]
    fn a_page_that_leads_to_itself_is_an_error() {
        let by_cursor = paging(json!({"type": "Cursor", "parameter": "after", "cursorFrom": "/next"}));
        let same = || (2, "", json!({"next": "a"}));
        assert!(walk(&by_cursor, &[same(), same()]).unwrap_err().contains("the same page"));
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

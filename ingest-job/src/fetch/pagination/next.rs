//! Where a response leads: the next page number, offset, cursor or URL.

use serde_json::Value;
use userpipeline_api::{Pagination, PaginationType};

use super::{
    answer::Answer,
    link::next_link,
    position::{Position, Token},
};
use crate::page::Item;

const FIELD: &str = "spec.source.http.pagination";

/// The position at which a run starts.
pub fn first(pagination: &Pagination) -> Position {
    match pagination.kind {
        PaginationType::Page => Position::Number(pagination.start.unwrap_or(1)),
        PaginationType::Offset => Position::Number(pagination.start.unwrap_or(0)),
        _ => Position::First,
    }
}

/// The position that follows the page at `position`; none if the response has no next cursor or URL, or an offset cannot advance.
pub fn next(pagination: &Pagination, position: &Position, answer: &Answer, items: &[Item]) -> Result<Option<Position>, String> {
    let advance_by = |number: i64| match position {
        Position::Number(position) => Some(Position::Number(position.saturating_add(number))),
        _ => None,
    };
    match pagination.kind {
        PaginationType::Single => Ok(None),
        PaginationType::Repeat => Ok(Some(Position::First)),
        PaginationType::Page => Ok(advance_by(1)),
        PaginationType::Offset => {
            let items = i64::try_from(items.len()).unwrap_or(i64::MAX);
            let step = pagination.step.unwrap_or(items);
            Ok(advance_by(step).filter(|_| step > 0))
        }
        PaginationType::Cursor => Ok(cursor(pagination, answer, items)?.map(Position::Cursor)),
        PaginationType::Link => Ok(next_link(&answer.headers, &answer.url)?.map(Position::Url)),
        PaginationType::NextUrl => next_url(pagination, answer),
    }
}

fn cursor(pagination: &Pagination, answer: &Answer, items: &[Item]) -> Result<Option<Token>, String> {
    if let Some(name) = &pagination.cursor_from_header {
        let header = answer.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
        let text = header.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        return Ok(text.map(|text| Token { text, is_number: false }));
    }
    if let Some(pointer) = &pagination.cursor_from_last_item {
        let field = format!("{FIELD}.cursorFromLastItem");
        let item = match items.last() {
            None => return Ok(None),
            Some(Item::Json(item)) => item,
            Some(Item::InvalidLine(_)) => return Err(format!("{field}: the last item of the page is not JSON")),
        };
        let found = token_at(item.get().as_bytes(), pointer).map_err(|e| format!("{field}: in the last item of the page, {e}"))?;
        return found
            .map(Some)
            .ok_or_else(|| format!("{field}: the last item of the page has no value at {pointer}"));
    }
    let pointer = pagination.cursor_from.as_deref().unwrap_or_default();
    token_at(&answer.body, pointer).map_err(|e| format!("{FIELD}.cursorFrom: {e}"))
}

fn next_url(pagination: &Pagination, answer: &Answer) -> Result<Option<Position>, String> {
    let pointer = pagination.next_url_from.as_deref().unwrap_or_default();
    let error = |problem: String| format!("{FIELD}.nextUrlFrom: {problem}");
    match token_at(&answer.body, pointer).map_err(error)? {
        None => Ok(None),
        Some(Token { is_number: true, .. }) => Err(error(format!(
            "the value at {pointer} is a number, not a URL: use type Cursor with cursorFrom"
        ))),
        Some(Token { text, .. }) => match answer.url.join(&text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(Some(Position::Url(url))),
            _ => Err(error(format!("the text at {pointer} is not an http or https URL"))),
        },
    }
}

/// The text or number at a JSON pointer of a document; none if it is absent, null or an empty text.
pub fn text_at(document: &[u8], pointer: &str) -> Result<Option<String>, String> {
    Ok(scalar_at(document, pointer)?.map(|token| token.text))
}

/// The same; `false` is none as well.
fn token_at(document: &[u8], pointer: &str) -> Result<Option<Token>, String> {
    let is_false = userpipeline_record::raw_at(document, pointer).is_some_and(|raw| raw.get() == "false");
    if is_false { Ok(None) } else { scalar_at(document, pointer) }
}

fn scalar_at(document: &[u8], pointer: &str) -> Result<Option<Token>, String> {
    let Some(found) = userpipeline_record::raw_at(document, pointer) else {
        return Ok(None);
    };
    let token = |text: String, is_number| Some(Token { text, is_number });
    match serde_json::from_str::<Value>(found.get()) {
        Ok(Value::Null) => Ok(None),
        Ok(Value::String(text)) if text.is_empty() => Ok(None),
        Ok(Value::String(text)) => Ok(token(text, false)),
        // As it was written: a number of more than 64 bits keeps its digits.
        Ok(Value::Number(_)) => Ok(token(found.get().to_owned(), true)),
        _ => Err(format!("the value at {pointer} is neither text nor a number")),
    }
}

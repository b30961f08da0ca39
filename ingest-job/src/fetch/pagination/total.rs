//! The total number of items that a source declares.

use userpipeline_api::{Pagination, PaginationType};

use super::{answer::Answer, next::text_at, position::Position};

/// The total that a response declares; none if the spec names none, or the response has none.
pub fn declared_total(pagination: &Pagination, answer: &Answer) -> Result<Option<u64>, String> {
    let (field, found) = if let Some(name) = &pagination.total_from_header {
        let header = answer
            .headers
            .get(name)
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        ("totalFromHeader", header)
    } else if let Some(pointer) = &pagination.total_from {
        let error = |e| format!("spec.source.http.pagination.totalFrom: {e}");
        ("totalFrom", text_at(&answer.body, pointer).map_err(error)?)
    } else {
        return Ok(None);
    };
    let Some(text) = found else { return Ok(None) };
    let total = text.trim().parse().map(Some);
    total.map_err(|_| format!("spec.source.http.pagination.{field}: the total is not a whole number"))
}

/// The number of items before the page at which a run starts.
pub fn items_before_first(pagination: &Pagination, first: &Position, first_page: u64) -> u64 {
    let Position::Number(number) = first else { return 0 };
    let number = u64::try_from(*number).unwrap_or(0);
    match pagination.kind {
        PaginationType::Offset => number,
        PaginationType::Page => {
            let size = pagination.page_size.and_then(|size| u64::try_from(size).ok()).unwrap_or(first_page);
            number.saturating_sub(1).saturating_mul(size)
        }
        _ => 0,
    }
}

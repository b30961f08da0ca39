//! `endWhen`: the expression that recognises the last page.

use reqwest::header::HeaderMap;
use serde_json::Value as Json;
use userpipeline_api::Pagination;
use userpipeline_record::{Expression, Reads, parts};

use super::answer::Answer;
use crate::{page::Item, raw_item::RawItem};

const FIELD: &str = "spec.source.http.pagination.endWhen";

/// Compiles `endWhen`. The error names the field.
pub fn compile(pagination: &Pagination) -> Result<Option<Expression>, String> {
    let compiled = pagination.end_when.as_deref().map(Expression::compile_for_page);
    compiled.transpose().map_err(|problem| format!("{FIELD}: {problem}"))
}

/// Whether the page is the last one. Only what the expression reads is parsed: a page may be large.
pub fn is_last(expression: &Expression, answer: &Answer, items: &[Item], page: i64) -> Result<bool, String> {
    let error = |problem: String| format!("{FIELD}: {problem}");
    let values = [
        read_answer(&expression.reads("answer"), &answer.body).map_err(error)?,
        read_items(&expression.reads("items"), items).map_err(error)?,
        page.into(),
        match expression.reads("headers") {
            Reads::Nothing => Json::Null,
            _ => headers_json(&answer.headers),
        },
    ];
    match expression.evaluate_over(&values.each_ref()) {
        Ok(Json::Bool(is_last)) => Ok(is_last),
        Ok(_) => Err(error("its value is neither true nor false".to_owned())),
        Err(problem) => Err(error(problem)),
    }
}

fn read_answer(reads: &Reads, body: &[u8]) -> Result<Json, String> {
    if *reads == Reads::Nothing {
        return Ok(Json::Null);
    }
    parts(body, reads).map_err(|_| "it reads `answer`, but the response is not a JSON document".to_owned())
}

fn read_items(reads: &Reads, items: &[Item]) -> Result<Json, String> {
    let read = |item: &Item| match (reads, item) {
        (Reads::Whole | Reads::Parts(_), Item::Json(item)) => parse(item),
        _ => Ok(Json::Null),
    };
    match reads {
        Reads::Nothing => Ok(Json::Null),
        _ => items.iter().map(read).collect(),
    }
}

fn parse(item: &RawItem) -> Result<Json, String> {
    serde_json::from_str(item.get()).map_err(|_| "it reads `items`, of which one cannot be parsed".to_owned())
}

/// The headers of a response, with names in lower case.
pub fn headers_json(headers: &HeaderMap) -> Json {
    let text = |value: &reqwest::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), Json::from(text(value))));
    Json::Object(headers.collect())
}

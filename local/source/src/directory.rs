//! `/directory`: a finite collection in pages, as most APIs have.

use std::sync::Arc;

use axum::{
    Json, extract,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use crate::{generate, page, query::Query, state::State};

const PAGES: u32 = 10;
const USERS_PER_PAGE: u32 = 100;

#[derive(Debug, Deserialize)]
pub(crate) struct DirectoryQuery {
    page: Option<u32>,
    seed: Option<String>,
}

/// `GET /directory?page=…&seed=…`. The first page is 1; a page after the last one has no users.
pub(crate) async fn get(
    extract::State(state): extract::State<Arc<State>>,
    extract::Query(query): extract::Query<DirectoryQuery>,
) -> Response {
    let Ok(_permit) = state.in_flight.try_acquire() else {
        return page::error(StatusCode::SERVICE_UNAVAILABLE, "too many requests at once");
    };
    let number = query.page.unwrap_or(1);
    if number == 0 {
        return page::error(StatusCode::BAD_REQUEST, "pages are counted from 1");
    }
    let seed = query.seed.unwrap_or_else(|| "directory".to_owned());
    let generated = tokio::task::spawn_blocking(move || {
        let results = if number <= PAGES { USERS_PER_PAGE } else { 0 };
        let query = Query::parse(&[
            ("page".to_owned(), number.to_string()),
            ("results".to_owned(), results.max(1).to_string()),
        ]);
        let mut users = generate::users(&query, &seed, Timestamp::now());
        users.truncate(results as usize);
        json!({"data": users, "page": number, "pages": PAGES})
    });
    match generated.await {
        Ok(answer) => Json(answer).into_response(),
        Err(error) => page::internal_error(&error.into()),
    }
}

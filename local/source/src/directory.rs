//! `/directory`: a collection that ends, page by page, as most APIs have it.

use std::sync::Arc;

use axum::{
    Json, extract,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use crate::{page, query::Query, state::State, users};

/// So many pages there are,
const PAGES: u32 = 10;
/// of so many users each.
const PER_PAGE: u32 = 100;

/// What is asked for.
#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    page: Option<u32>,
    seed: Option<String>,
}

/// `GET /directory?page=…&seed=…`: the users of a page, from 1; none behind the last one.
pub(crate) async fn get(extract::State(state): extract::State<Arc<State>>, extract::Query(asked): extract::Query<Asked>) -> Response {
    let Ok(_permit) = state.in_flight.try_acquire() else {
        return page::error(StatusCode::SERVICE_UNAVAILABLE, "too many requests at once");
    };
    let number = asked.page.unwrap_or(1);
    if number == 0 {
        return page::error(StatusCode::BAD_REQUEST, "pages are counted from 1");
    }
    let seed = asked.seed.unwrap_or_else(|| "directory".to_owned());
    let made = tokio::task::spawn_blocking(move || {
        let results = if number <= PAGES { PER_PAGE } else { 0 };
        let query = Query::parse(&[
            ("page".to_owned(), number.to_string()),
            ("results".to_owned(), results.max(1).to_string()),
        ]);
        let mut users = users::users(&query, &seed, Timestamp::now());
        users.truncate(results as usize);
        json!({"data": users, "page": number, "pages": PAGES})
    });
    match made.await {
        Ok(answer) => Json(answer).into_response(),
        Err(error) => crate::api::failed(&error.into()),
    }
}

//! `/admin`: for tests. Nothing here counts against the limit, and no fault hits it.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{self, RawQuery},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, put},
};
use serde_json::{Value, json};

use crate::{
    api,
    fault::Order,
    page::{self, Page},
    query::{self, Query},
    state::State,
    users,
};

type Shared = extract::State<Arc<State>>;

pub(crate) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/fault", put(put_fault).get(list_faults).delete(delete_fault))
        .route("/requests", get(requests))
        .route("/served", get(served))
        .route("/users", get(again))
}

fn seed(raw: Option<&str>) -> Option<String> {
    let pairs = query::pairs(raw.unwrap_or_default());
    let seed = query::value(&pairs, "seed").filter(|seed| !seed.is_empty());
    seed.map(str::to_owned)
}

async fn put_fault(extract::State(state): Shared, body: Bytes) -> Response {
    let order: Result<Order, _> = serde_json::from_slice(&body);
    let done = order.map_err(|mistake| mistake.to_string()).and_then(|order| {
        tracing::info!(?order, "fault");
        state.faults().put(order)
    });
    match done {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(mistake) => page::error(StatusCode::BAD_REQUEST, &mistake),
    }
}

async fn list_faults(extract::State(state): Shared) -> Json<Value> {
    Json(json!({ "faults": state.faults().list() }))
}

async fn delete_fault(extract::State(state): Shared, RawQuery(raw): RawQuery) -> StatusCode {
    state.faults().remove(seed(raw.as_deref()).as_deref());
    StatusCode::NO_CONTENT
}

async fn requests(extract::State(state): Shared, RawQuery(raw): RawQuery) -> Response {
    let books = state.books();
    let Some(seed) = seed(raw.as_deref()) else {
        let mut told = json!(books.total());
        told["bySeed"] = json!(books.by_seed());
        return Json(told).into_response();
    };
    Json(books.of_seed(&seed)).into_response()
}

async fn served(extract::State(state): Shared, RawQuery(raw): RawQuery) -> Json<Value> {
    let (served, dropped) = state.books().list(seed(raw.as_deref()).as_deref());
    Json(json!({ "served": served, "dropped": dropped }))
}

async fn again(extract::State(state): Shared, RawQuery(raw): RawQuery) -> Response {
    let query = Query::replay(&query::pairs(&raw.unwrap_or_default()));
    let seed = query.seed.clone().unwrap_or_else(users::random_seed);
    let made = Page::make(&state, query, seed).await;
    made.map_or_else(|error| api::failed(&error), |page| page.respond())
}

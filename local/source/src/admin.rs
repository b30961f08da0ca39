//! `/admin`: for tests. These requests are not counted, not limited, and receive no faults.

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
    fault::FaultSpec,
    generate,
    page::{self, Page},
    query::{self, Query},
    state::State,
};

type Shared = extract::State<Arc<State>>;

pub(crate) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/fault", put(put_fault).get(list_faults).delete(delete_fault))
        .route("/requests", get(requests))
        .route("/served", get(served))
        .route("/users", get(regenerate_users))
}

fn seed(raw: Option<&str>) -> Option<String> {
    let pairs = query::pairs(raw.unwrap_or_default());
    let seed = query::value(&pairs, "seed").filter(|seed| !seed.is_empty());
    seed.map(str::to_owned)
}

async fn put_fault(extract::State(state): Shared, body: Bytes) -> Response {
    let spec: Result<FaultSpec, _> = serde_json::from_slice(&body);
    let result = spec.map_err(|error| error.to_string()).and_then(|spec| {
        tracing::info!(?spec, "fault");
        state.faults().put(spec)
    });
    match result {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(message) => page::error(StatusCode::BAD_REQUEST, &message),
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
    let log = state.request_log();
    let Some(seed) = seed(raw.as_deref()) else {
        let mut counters = json!(log.total());
        counters["bySeed"] = json!(log.by_seed());
        return Json(counters).into_response();
    };
    Json(log.of_seed(&seed)).into_response()
}

async fn served(extract::State(state): Shared, RawQuery(raw): RawQuery) -> Json<Value> {
    let (served, dropped) = state.request_log().served_pages(seed(raw.as_deref()).as_deref());
    Json(json!({ "served": served, "dropped": dropped }))
}

async fn regenerate_users(extract::State(state): Shared, RawQuery(raw): RawQuery) -> Response {
    let query = Query::replay(&query::pairs(&raw.unwrap_or_default()));
    let seed = query.seed.clone().unwrap_or_else(generate::random_seed);
    let page = Page::generate(&state, query, seed).await;
    page.map_or_else(|error| page::internal_error(&error), |page| page.respond())
}

//! `/api`: a request for users.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    extract::{self, ConnectInfo, RawQuery},
    http::StatusCode,
    response::Response,
};

use crate::{
    fault::{self, Fault, FaultKind},
    fault_response, generate,
    page::{self, Page},
    query::{self, Query},
    rate_limit::Exceeded,
    request_log::ServedPage,
    state::State,
};

/// `GET /api/`.
pub(crate) async fn get(
    extract::State(state): extract::State<Arc<State>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    RawQuery(raw): RawQuery,
) -> Response {
    let Ok(_permit) = state.in_flight.try_acquire() else {
        return page::error(StatusCode::SERVICE_UNAVAILABLE, "too many requests at once");
    };
    let pairs = query::pairs(&raw.unwrap_or_default());
    let query = Query::parse(&pairs);
    let seed = query.seed.clone();
    let seed = seed.as_deref();

    state.request_log().requested(seed);
    let fault = match fault::from_query(&pairs) {
        Ok(fault) => fault.or_else(|| state.faults().take(seed)),
        Err(message) => return page::error(StatusCode::BAD_REQUEST, &message),
    };
    tracing::info!(%client, seed, page = query.page, results = query.results, fault = fault.map(|fault| fault.kind.as_str()), "request");
    let response = match fault {
        Some(fault) => respond_with_fault(&state, client, query, fault).await,
        None => serve(&state, client, query).await,
    };
    response.unwrap_or_else(|error| page::internal_error(&error))
}

async fn respond_with_fault(state: &State, client: SocketAddr, query: Query, fault: Fault) -> anyhow::Result<Response> {
    let seed = query.seed.clone();
    if fault.kind == FaultKind::Repeat {
        return repeat(state, client, query).await;
    }
    state.request_log().faulted(seed.as_deref(), fault.kind);
    Ok(match fault.kind {
        FaultKind::Status => fault_response::status(fault.status.unwrap_or(500)),
        FaultKind::Outage => fault_response::outage(fault.status),
        FaultKind::Empty => fault_response::empty(),
        FaultKind::Hang => fault_response::hang(state, fault.seconds).await,
        FaultKind::NotJson => fault_response::not_json(),
        FaultKind::Truncate | FaultKind::Repeat => {
            let seed = seed.unwrap_or_else(generate::random_seed);
            fault_response::truncate(&Page::generate(state, query, seed).await?)
        }
    })
}

/// Answers as a stale cache would: with the previous answer, its info included. Without one, it answers correctly.
async fn repeat(state: &State, client: SocketAddr, query: Query) -> anyhow::Result<Response> {
    let requested_seed = query.seed.as_deref();
    let Some(last) = state.request_log().last_query(requested_seed) else {
        return serve(state, client, query).await;
    };
    state.request_log().faulted(requested_seed, FaultKind::Repeat);
    let previous = Query {
        format: query.format,
        info: query.info,
        ..Query::replay(&query::pairs(&last))
    };
    let used_seed = previous.seed.clone().unwrap_or_default();
    send(state, client, query.seed, previous, used_seed).await
}

async fn serve(state: &State, client: SocketAddr, query: Query) -> anyhow::Result<Response> {
    let requested_seed = query.seed.clone();
    let used_seed = requested_seed.clone().unwrap_or_else(generate::random_seed);
    send(state, client, requested_seed, query, used_seed).await
}

/// Sends a page within the rate limit and records it as served.
async fn send(
    state: &State,
    client: SocketAddr,
    requested_seed: Option<String>,
    query: Query,
    used_seed: String,
) -> anyhow::Result<Response> {
    let admitted = state.rate_limit().admit(client.ip(), query.results, state.uptime());
    if let Err(Exceeded(users)) = admitted {
        state.request_log().limited(requested_seed.as_deref());
        let message = format!("Whoa, ease up there. You've requested {users} users lately.");
        return Ok(page::error(StatusCode::TOO_MANY_REQUESTS, &message));
    }
    let served = ServedPage {
        page: query.page,
        results: query.results,
        times: 1,
        query: query.canonical(&used_seed),
        seed: used_seed.clone(),
    };
    let page = Page::generate(state, query, used_seed).await?;
    state.request_log().served(requested_seed.as_deref(), served);
    Ok(page.respond())
}

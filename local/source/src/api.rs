//! `/api`: one request for users, from its query to its answer.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    extract::{self, ConnectInfo, RawQuery},
    http::StatusCode,
    response::{IntoResponse, Response},
};

use crate::{
    book::Served,
    fault::{self, Fault, Kind},
    limit::Exceeded,
    misbehave,
    page::{self, Page},
    query::{self, Query},
    state::State,
    users,
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

    state.books().requested(seed);
    let fault = match fault::from_query(&pairs) {
        Ok(fault) => fault.or_else(|| state.faults().take(seed)),
        Err(mistake) => return page::error(StatusCode::BAD_REQUEST, &mistake),
    };
    tracing::info!(%client, seed, page = query.page, results = query.results, fault = fault.map(|fault| fault.kind.as_str()), "request");
    let answered = match fault {
        Some(fault) => suffer(&state, client, query, fault).await,
        None => serve(&state, client, query).await,
    };
    answered.unwrap_or_else(|error| failed(&error))
}

/// The answer to a failure of our own.
pub(crate) fn failed(error: &anyhow::Error) -> Response {
    tracing::error!(%error, "a page could not be made");
    StatusCode::INTERNAL_SERVER_ERROR.into_response()
}

async fn suffer(state: &State, client: SocketAddr, query: Query, fault: Fault) -> anyhow::Result<Response> {
    let seed = query.seed.clone();
    if fault.kind == Kind::Repeat {
        return repeat(state, client, query).await;
    }
    state.books().faulted(seed.as_deref(), fault.kind);
    Ok(match fault.kind {
        Kind::Status => misbehave::status(fault.status.unwrap_or(500)),
        Kind::Outage => misbehave::outage(fault.status),
        Kind::Empty => misbehave::empty(),
        Kind::Hang => misbehave::hang(state, fault.seconds).await,
        Kind::NotJson => misbehave::not_json(),
        Kind::Truncate | Kind::Repeat => {
            let seed = seed.unwrap_or_else(users::random_seed);
            misbehave::truncate(&Page::make(state, query, seed).await?)
        }
    })
}

/// As a stale cache would: the whole answer before, its info included. Where there was none, an honest answer.
async fn repeat(state: &State, client: SocketAddr, query: Query) -> anyhow::Result<Response> {
    let asked = query.seed.as_deref();
    let Some(last) = state.books().last(asked) else {
        return serve(state, client, query).await;
    };
    state.books().faulted(asked, Kind::Repeat);
    let before = Query {
        format: query.format,
        info: query.info,
        ..Query::replay(&query::pairs(&last))
    };
    let used = before.seed.clone().unwrap_or_default();
    send(state, client, query.seed, before, used).await
}

async fn serve(state: &State, client: SocketAddr, query: Query) -> anyhow::Result<Response> {
    let asked = query.seed.clone();
    let used = asked.clone().unwrap_or_else(users::random_seed);
    send(state, client, asked, query, used).await
}

/// Sends a page, within the limit, and notes it as served.
async fn send(state: &State, client: SocketAddr, asked: Option<String>, query: Query, used: String) -> anyhow::Result<Response> {
    let admitted = state.limit().admit(client.ip(), query.results, state.uptime());
    if let Err(Exceeded(users)) = admitted {
        state.books().limited(asked.as_deref());
        let message = format!("Whoa, ease up there. You've requested {users} users lately.");
        return Ok(page::error(StatusCode::TOO_MANY_REQUESTS, &message));
    }
    let served = Served {
        page: query.page,
        results: query.results,
        times: 1,
        query: query.canonical(&used),
        seed: used.clone(),
    };
    let page = Page::make(state, query, used).await?;
    state.books().served(asked.as_deref(), served);
    Ok(page.respond())
}

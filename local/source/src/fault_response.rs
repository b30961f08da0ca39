//! The responses of faults.

use std::{io, time::Duration};

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use bytes::Bytes;
use futures::{StreamExt, stream};

use crate::{
    page::{self, Page},
    state::State,
};

pub(crate) fn status(status: u16) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let reason = status.canonical_reason().unwrap_or("Error");
    page::error(status, reason)
}

pub(crate) fn outage(status: Option<u16>) -> Response {
    let status = status.and_then(|status| StatusCode::from_u16(status).ok());
    page::error(
        status.unwrap_or(StatusCode::OK),
        "Uh oh, something has gone wrong. Please try again later.",
    )
}

pub(crate) fn empty() -> Response {
    axum::Json(serde_json::json!({
        "results": [],
        "info": { "seed": "d3adb33f", "results": 1, "page": 1, "version": "1.4" },
    }))
    .into_response()
}

/// Waits, then answers as a proxy would after its time-out.
pub(crate) async fn hang(state: &State, seconds: Option<u64>) -> Response {
    let requested = seconds.map_or(state.hang_cap, Duration::from_secs);
    tokio::select! {
        () = tokio::time::sleep(requested.min(state.hang_cap)) => {}
        () = state.stop.cancelled() => {}
    }
    page::error(StatusCode::GATEWAY_TIMEOUT, "Gateway Timeout")
}

/// Announces the length of the whole page, sends half of it, and closes the connection.
pub(crate) fn truncate(page: &Page) -> Response {
    let half = page.body.slice(..page.body.len() / 2);
    let cut = stream::once(async {
        // Lets the first half reach the client before the connection closes.
        tokio::time::sleep(Duration::from_millis(50)).await;
        Err(io::Error::other("truncated by a fault"))
    });
    let sent = stream::iter([Ok::<Bytes, io::Error>(half)]).chain(cut);
    let mut response = page.respond_with(Body::from_stream(sent));
    let length = HeaderValue::from(page.body.len());
    response.headers_mut().insert(header::CONTENT_LENGTH, length);
    response
}

pub(crate) fn not_json() -> Response {
    Html("<!DOCTYPE html>\n<html><body><h1>We'll be back soon</h1></body></html>\n").into_response()
}

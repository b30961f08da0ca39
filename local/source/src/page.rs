//! A page of users, rendered outside the event loop.

use std::sync::Arc;

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use jiff::Timestamp;

use crate::{
    format::{self, Answer, Info},
    generate,
    query::{Format, Query},
    state::State,
};

#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) body: Bytes,
    format: Format,
}

impl Page {
    pub(crate) async fn generate(state: &State, query: Query, seed: String) -> anyhow::Result<Self> {
        let permit = Arc::clone(&state.generating).acquire_owned().await?;
        let format = query.format;
        let body = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let answer = Answer {
                results: generate::users(&query, &seed, Timestamp::now()),
                info: query.info.then_some(Info {
                    results: query.results,
                    page: query.page,
                    version: "1.4",
                    seed,
                }),
            };
            format::render(&answer, query.format)
        })
        .await??;
        Ok(Self { body: body.into(), format })
    }

    /// A response with this page's headers and another body.
    pub(crate) fn respond_with(&self, body: Body) -> Response {
        let mut response = body.into_response();
        let headers = response.headers_mut();
        let content_type = HeaderValue::from_static(format::content_type(self.format));
        headers.insert(header::CONTENT_TYPE, content_type);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        let any_origin = HeaderValue::from_static("*");
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, any_origin);
        response
    }

    pub(crate) fn respond(&self) -> Response {
        self.respond_with(Body::from(self.body.clone()))
    }
}

/// Answers 500 and logs the cause.
pub(crate) fn internal_error(error: &anyhow::Error) -> Response {
    tracing::error!(%error, "cannot generate a page");
    StatusCode::INTERNAL_SERVER_ERROR.into_response()
}

/// Answers `{"error":"…"}`.
pub(crate) fn error(status: StatusCode, message: &str) -> Response {
    (status, axum::Json(serde_json::json!({ "error": message }))).into_response()
}

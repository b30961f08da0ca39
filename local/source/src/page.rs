//! Makes a page of users, off the event loop.

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
    query::{Format, Query},
    state::State,
    users,
};

/// A page in its form, ready to be sent.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) body: Bytes,
    format: Format,
}

impl Page {
    pub(crate) async fn make(state: &State, query: Query, seed: String) -> anyhow::Result<Self> {
        let permit = Arc::clone(&state.making).acquire_owned().await?;
        let format = query.format;
        let body = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let answer = Answer {
                results: users::users(&query, &seed, Timestamp::now()),
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

    /// An answer of this page's type with another body.
    pub(crate) fn with(&self, body: Body) -> Response {
        let mut response = body.into_response();
        let headers = response.headers_mut();
        let content_type = HeaderValue::from_static(format::content_type(self.format));
        headers.insert(header::CONTENT_TYPE, content_type);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        let anybody = HeaderValue::from_static("*");
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, anybody);
        response
    }

    pub(crate) fn respond(&self) -> Response {
        self.with(Body::from(self.body.clone()))
    }
}

/// `{"error":"…"}`.
pub(crate) fn error(status: StatusCode, message: &str) -> Response {
    (status, axum::Json(serde_json::json!({ "error": message }))).into_response()
}

//! The timeouts of a request. Their errors name the field that sets them.

use std::fmt;

use bytes::Bytes;
use reqwest::{ClientBuilder, RequestBuilder, Response};
use tokio::time::timeout;
use userpipeline_api::{Duration, HttpSource};

use super::error::describe;

pub struct Timeouts {
    /// For the whole request. The client enforces it.
    total: Timeout,
    /// For a connection. The client enforces it.
    connect: Timeout,
    /// From sending the request to receiving the headers, including a new connection and redirects.
    first_byte: Option<Timeout>,
    /// Between two chunks of the body.
    idle: Option<Timeout>,
}

#[derive(Clone, Copy)]
struct Timeout {
    field: &'static str,
    duration: Duration,
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (spec.source.http.{})", self.duration, self.field)
    }
}

impl Timeouts {
    pub fn of(http: &HttpSource) -> Self {
        let optional = |field, duration: Option<Duration>| duration.map(|duration| Timeout { field, duration });
        let total = Timeout {
            field: "timeout",
            duration: http.timeout,
        };
        let idle = optional("idleTimeout", http.idle_timeout);
        Self {
            total,
            connect: optional("connectTimeout", http.connect_timeout).unwrap_or(total),
            first_byte: optional("firstByteTimeout", http.first_byte_timeout).or(idle),
            idle,
        }
    }

    /// Sets the timeouts that the client enforces. Not reqwest's `read_timeout`, which applies to headers and body alike.
    pub fn configure(&self, client: ClientBuilder) -> ClientBuilder {
        client
            .timeout(self.total.duration.into())
            .connect_timeout(self.connect.duration.into())
    }

    /// Sends a request and waits for the headers of the response. The error continues a sentence that starts with the server.
    pub async fn send(&self, request: RequestBuilder) -> Result<Response, String> {
        match within(self.first_byte, request.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(e)) if e.is_timeout() && e.is_connect() => Err(format!("accepted no connection within {}", self.connect)),
            Ok(Err(e)) if e.is_timeout() => Err(format!("did not respond within {}", self.total)),
            Ok(Err(e)) => Err(format!("cannot be reached: {}", describe(e))),
            Err(timeout) => Err(format!("did not respond within {timeout}")),
        }
    }

    /// The next chunk of a body, decompressed; none at its end.
    pub async fn next_chunk(&self, response: &mut Response) -> Result<Option<Bytes>, String> {
        match within(self.idle, response.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(e)) if e.is_timeout() => Err(format!("it was not complete within {}", self.total)),
            Ok(Err(e)) => Err(describe(e)),
            Err(timeout) => Err(format!("no data arrived for {timeout}")),
        }
    }
}

async fn within<F: Future>(limit: Option<Timeout>, future: F) -> Result<F::Output, Timeout> {
    match limit {
        None => Ok(future.await),
        Some(limit) => timeout(limit.duration.into(), future).await.map_err(|_| limit),
    }
}

//! How long to wait for the source, and which field to name when that was in vain.

use std::fmt;

use bytes::Bytes;
use reqwest::{ClientBuilder, RequestBuilder, Response};
use tokio::time::timeout;
use userpipeline_api::{Duration, HttpSource};

use super::request::explained;

/// How long each part of a request may take.
pub struct Waits {
    /// All of it, by the client.
    whole: Bound,
    /// The connection, by the client.
    connection: Bound,
    /// The answer's head, from the request on: a new connection and redirects are within it. Where none is given, only the others bound it.
    first_byte: Option<Bound>,
    /// Each piece of the answer's body. Where none is given, only `whole` bounds it.
    idle: Option<Bound>,
}

/// How long, and which field says so.
#[derive(Clone, Copy)]
struct Bound {
    field: &'static str,
    most: Duration,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (spec.source.http.{})", self.most, self.field)
    }
}

impl Waits {
    /// As the spec says.
    pub fn of(http: &HttpSource) -> Self {
        let bound = |field, most: Option<Duration>| most.map(|most| Bound { field, most });
        let whole = Bound {
            field: "timeout",
            most: http.timeout,
        };
        let idle = bound("idleTimeout", http.idle_timeout);
        Self {
            whole,
            connection: bound("connectTimeout", http.connect_timeout).unwrap_or(whole),
            first_byte: bound("firstByteTimeout", http.first_byte_timeout).or(idle),
            idle,
        }
    }

    /// The client, with the bounds that it keeps itself. Not with reqwest's `read_timeout`: that is for an answer's head and its body alike.
    pub fn bounded(&self, client: ClientBuilder) -> ClientBuilder {
        client.timeout(self.whole.most.into()).connect_timeout(self.connection.most.into())
    }

    /// Asks, and waits for the head of the answer. An error says what the source did not do, without the address.
    pub async fn answer(&self, request: RequestBuilder) -> Result<Response, String> {
        match within(self.first_byte, request.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(e)) if e.is_timeout() && e.is_connect() => Err(format!("took no connection within {}", self.connection)),
            Ok(Err(e)) if e.is_timeout() => Err(format!("gave no answer within {}", self.whole)),
            Ok(Err(e)) => Err(format!("cannot be asked: {}", explained(e))),
            Err(bound) => Err(format!("gave no answer within {bound}")),
        }
    }

    /// Waits for the next piece of an answer's body, after decompression; none at its end. An error says why it does not come.
    pub async fn piece(&self, response: &mut Response) -> Result<Option<Bytes>, String> {
        match within(self.idle, response.chunk()).await {
            Ok(Ok(piece)) => Ok(piece),
            Ok(Err(e)) if e.is_timeout() => Err(format!("it was not complete within {}", self.whole)),
            Ok(Err(e)) => Err(explained(e)),
            Err(bound) => Err(format!("nothing came for {bound}")),
        }
    }
}

async fn within<F: Future>(bound: Option<Bound>, wait: F) -> Result<F::Output, Bound> {
    match bound {
        None => Ok(wait.await),
        Some(bound) => timeout(bound.most.into(), wait).await.map_err(|_| bound),
    }
}

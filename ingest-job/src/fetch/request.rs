//! One request to the source.

use reqwest::{
    Client, Response, StatusCode, Url,
    header::{AUTHORIZATION, HeaderMap},
};
use userpipeline_api::{HttpSource, Method, bytes};
use userpipeline_stores::{Secrets, tls};

use super::{
    auth::Authorization,
    body,
    error::{RequestError, describe, retry_after},
    headers::headers,
    paging::{Next, Paging, Position},
    redirects::{self, may_lead},
    timeouts::Timeouts,
};
use crate::{
    outcome::{Failure, PIPELINE_INVALID, SOURCE_REFUSED},
    page::Item,
};

const USER_AGENT: &str = concat!("userpipeline-ingest/", env!("CARGO_PKG_VERSION"));
/// Where the items are in a response, by default.
const DEFAULT_ITEMS: &str = "/results";

/// The request of a pipeline, to be sent for each page.
pub struct Request {
    client: Client,
    timeouts: Timeouts,
    url: Url,
    http: HttpSource,
    secrets: Secrets,
    authorization: Authorization,
    paging: Paging,
    max_body_size: u64,
}

#[derive(Debug)]
pub struct FetchedPage {
    pub items: Vec<Item>,
    /// The response that contained the items.
    pub body: Vec<u8>,
    pub next: Next,
}

impl Request {
    pub fn new(http: &HttpSource, secrets: &Secrets) -> Result<Self, Failure> {
        let url = url(http)?;
        let timeouts = Timeouts::of(http);
        Ok(Self {
            client: client(http, &timeouts, secrets)?,
            timeouts,
            url,
            http: http.clone(),
            secrets: secrets.clone(),
            authorization: Authorization::of(http.auth.as_ref(), secrets),
            paging: Paging::of(&http.pagination),
            max_body_size: bytes(&http.max_body_size).map_err(|e| invalid("maxBodySize", &e))?,
        })
    }

    /// Changes the request, because the cursor advanced.
    pub fn update(&mut self, http: &HttpSource) -> Result<(), Failure> {
        self.url = url(http)?;
        self.http = http.clone();
        Ok(())
    }

    /// The position of the first page.
    pub fn first(&self) -> Position {
        self.paging.first()
    }

    /// Requests the page at a position, once.
    pub async fn send(&self, position: &Position) -> Result<FetchedPage, RequestError> {
        let response = self.respond(position).await?;
        let (status, headers, url) = (response.status(), response.headers().clone(), response.url().clone());
        let body = body::read(response, self.max_body_size, &self.timeouts)
            .await
            .map_err(RequestError::retryable)?;
        tracing::debug!(bytes = body.len(), "the source responded");
        self.page(position, status, &headers, &url, body).map_err(RequestError::retryable)
    }

    async fn respond(&self, position: &Position) -> Result<Response, RequestError> {
        let url = self.paging.url(&self.url, position);
        if !may_lead(&self.url, &url, &self.http.allowed_hosts) {
            let message = "the header Link leads to another server: add it to spec.source.http.allowedHosts to follow it";
            return Err(RequestError::Permanent(Failure::configuration(SOURCE_REFUSED, message)));
        }
        let mut headers = headers(&self.http, &self.secrets).map_err(RequestError::Permanent)?;
        // Credentials are for the server in the spec, wherever a Link leads.
        if may_lead(&self.url, &url, &[])
            && let Some(value) = self.authorization.header(&self.client, &self.timeouts).await?
        {
            headers.insert(AUTHORIZATION, value);
        }
        let request = match self.http.method {
            Method::Get => self.client.get(url),
            Method::Post => self.client.post(url).body(self.http.body.clone().unwrap_or_default()),
        };
        let response = self.timeouts.send(request.headers(headers)).await;
        let response = response.map_err(|e| RequestError::retryable(format!("{} {e}", self.host())))?;
        if response.status() == StatusCode::UNAUTHORIZED && self.authorization.discard_token().await {
            let error = format!("{} no longer accepts the OAuth 2.0 token", self.host());
            return Err(RequestError::retryable(error));
        }
        self.check_status(response)
    }

    fn page(&self, position: &Position, status: StatusCode, headers: &HeaderMap, url: &Url, body: Vec<u8>) -> Result<FetchedPage, String> {
        let pointer = self.http.items.as_deref().unwrap_or(DEFAULT_ITEMS);
        let items = if status == StatusCode::NO_CONTENT {
            Vec::new()
        } else {
            body::items(&body, self.http.format, pointer)?
        };
        let next = self.paging.next(position, url, items.len(), headers, &body)?;
        Ok(FetchedPage { items, body, next })
    }

    fn check_status(&self, response: Response) -> Result<Response, RequestError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let message = |hint: &str| format!("{} responded with {status}{hint}", self.host());
        if status.is_redirection() {
            let hint = format!(
                ", a redirect to {}, which is not followed: redirects may lead to the same host and to spec.source.http.allowedHosts",
                redirect_host(&response)
            );
            return Err(RequestError::Permanent(Failure::configuration(SOURCE_REFUSED, message(&hint))));
        }
        Err(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => RequestError::Permanent(Failure::configuration(
                SOURCE_REFUSED,
                message(": check the credentials in spec.source.http.auth or spec.source.http.headers"),
            )),
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::REQUEST_TIMEOUT => {
                RequestError::Retryable {
                    error: message(""),
                    retry_after: retry_after(&response),
                }
            }
            _ => RequestError::Permanent(Failure::retry(
                SOURCE_REFUSED,
                message(": check the url, query and body in spec.source.http"),
            )),
        })
    }

    /// Host and port only: path and query may be secret.
    fn host(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        self.url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }
}

fn invalid(field: &str, e: &dyn std::fmt::Display) -> Failure {
    Failure::configuration(PIPELINE_INVALID, format!("spec.source.http.{field}: {e}"))
}

/// The URL with the query parameters of the spec.
fn url(http: &HttpSource) -> Result<Url, Failure> {
    let mut url = Url::parse(http.url.as_deref().unwrap_or_default()).map_err(|e| invalid("url", &e))?;
    if !http.query.is_empty() {
        url.query_pairs_mut().extend_pairs(http.query.iter().map(|q| (&q.name, &q.value)));
    }
    Ok(url)
}

fn client(http: &HttpSource, timeouts: &Timeouts, secrets: &Secrets) -> Result<Client, Failure> {
    let mut client = Client::builder()
        .user_agent(USER_AGENT)
        .redirect(redirects::policy(http.allowed_hosts.clone()));
    client = timeouts.configure(client);
    if let Some(ca) = &http.tls.ca {
        for certificate in tls::authorities(secrets, ca, "spec.source.http.tls.ca")? {
            client = client.add_root_certificate(certificate);
        }
    }
    if let Some(secret) = &http.tls.client_secret_ref {
        client = client.identity(tls::client_identity(secrets, secret, "spec.source.http.tls.clientSecretRef")?);
    }
    client.build().map_err(|e| invalid("tls", &describe(e)))
}

fn redirect_host(response: &Response) -> String {
    let location = response.headers().get("location").and_then(|location| location.to_str().ok());
    let target = location.and_then(|location| response.url().join(location).ok());
    target.as_ref().and_then(Url::host_str).unwrap_or("an invalid location").to_owned()
}

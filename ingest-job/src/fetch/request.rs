//! One request to the source.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::{
    Client, Response, StatusCode, Url,
    header::{AUTHORIZATION, HeaderMap},
};
use userpipeline_api::{ErrorAction, HttpSource, Method, bytes};
use userpipeline_stores::{Secrets, tls};

use super::{
    auth::Authorization,
    body::{self, ReadError},
    error::{RequestError, describe},
    error_rules::{ErrorRules, Verdict},
    headers::headers,
    pagination::{Answer, Meaning, Placement, Position},
    pause::requested_pause,
    quote::{Credentials, quote},
    redirects::{self, may_lead},
    timeouts::Timeouts,
};
use crate::{
    outcome::{Failure, PIPELINE_INVALID, RESPONSE_INVALID, SOURCE_REFUSED},
    raw_item::Body,
};

const USER_AGENT: &str = concat!("userpipeline-ingest/", env!("CARGO_PKG_VERSION"));

/// The bytes of a response in error that are read.
const MAX_ERROR: usize = 16 << 10;
/// Where a rule means waiting, and the response does not say how long.
const DEFAULT_PAUSE: Duration = Duration::from_secs(60);
/// Statuses below 500 that may pass: timeout, too early, too many requests.
const TRANSIENT: [u16; 3] = [408, 425, 429];

/// The request of a pipeline, to be sent for each page.
pub struct Request {
    client: Client,
    timeouts: Timeouts,
    url: Url,
    http: HttpSource,
    secrets: Secrets,
    authorization: Authorization,
    placement: Placement,
    rules: ErrorRules,
    max_body_size: u64,
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
            placement: Placement::of(&http.paging()),
            rules: ErrorRules::of(http).map_err(|e| Failure::configuration(PIPELINE_INVALID, e))?,
            max_body_size: bytes(&http.max_body_size).map_err(|e| invalid("maxBodySize", &e))?,
        })
    }

    /// Changes the request, because the cursor advanced.
    pub fn update(&mut self, http: &HttpSource) -> Result<(), Failure> {
        self.url = url(http)?;
        self.http = http.clone();
        Ok(())
    }

    /// Requests the page at a position, once. `is_end`: which statuses are a page although they are errors.
    pub async fn send(&self, position: &Position, is_end: impl Fn(StatusCode) -> bool) -> Result<Answer, RequestError> {
        let (response, credentials) = self.respond(position).await?;
        let status = response.status();
        // A rate limit is no end, whatever its status.
        let pause = (!status.is_success())
            .then(|| requested_pause(response.headers(), Timestamp::now()))
            .flatten();
        let is_page = status.is_success() || (is_end(status) && pause.is_none());
        if !is_page && (self.rules.is_empty() || status.is_redirection()) {
            return Err(self.error(response, pause, &credentials).await);
        }
        let (headers, url) = (response.headers().clone(), response.url().clone());
        let body = body::read(response, self.max_body_size, &self.timeouts)
            .await
            .map_err(|error| match error {
                ReadError::TooLarge(error) => RequestError::Permanent(Failure::configuration(RESPONSE_INVALID, error)),
                ReadError::CutOff(error) => RequestError::retryable(error),
            })?;
        tracing::debug!(bytes = body.len(), "the source responded");
        let answer = Answer {
            status,
            headers,
            url,
            body: Body::new(body),
            meaning: Meaning::Page,
        };
        match self.rules.verdict(&answer) {
            Some(verdict) => self.act(verdict, answer, &credentials),
            None if is_page => Ok(answer),
            None => Err(self.error_of(status, &answer.headers, &answer.body, pause, &credentials)),
        }
    }

    /// Does what a rule says about a response.
    fn act(&self, verdict: Verdict<'_>, answer: Answer, credentials: &Credentials) -> Result<Answer, RequestError> {
        let quoted = || {
            let Answer { status, headers, body, .. } = &answer;
            format!("{} responded with {status}{}", self.host(), quote(headers, body, credentials))
        };
        let message = || verdict.message.map_or_else(quoted, |message| format!("{message} ({})", quoted()));
        let meaning = match verdict.then {
            ErrorAction::Fail => return Err(RequestError::Permanent(Failure::configuration(SOURCE_REFUSED, message()))),
            ErrorAction::Retry => return Err(RequestError::retryable(message())),
            ErrorAction::Wait => {
                let pause = requested_pause(&answer.headers, Timestamp::now()).unwrap_or(DEFAULT_PAUSE);
                return Err(RequestError::Retryable {
                    error: message(),
                    retry_after: Some(pause),
                });
            }
            ErrorAction::End => Meaning::End,
            ErrorAction::Ignore => Meaning::PageWithErrors,
        };
        tracing::debug!(
            status = answer.status.as_u16(),
            ?meaning,
            "a rule of spec.source.http.errors applies"
        );
        Ok(Answer { meaning, ..answer })
    }

    /// The response to a request, of any status, and the credentials that the request had.
    async fn respond(&self, position: &Position) -> Result<(Response, Credentials), RequestError> {
        let refused = |message: String| RequestError::Permanent(Failure::configuration(SOURCE_REFUSED, message));
        let url = self.placement.url(&self.url, position);
        if !may_lead(&self.url, &url, &self.http.allowed_hosts) {
            let host = url.host_str().unwrap_or_default();
            return Err(refused(format!(
                "the URL of the next page leads to another server, {}://{host}: add it to spec.source.http.allowedHosts to follow it",
                url.scheme()
            )));
        }
        let mut headers = headers(&self.http, &self.secrets).map_err(RequestError::Permanent)?;
        headers.extend(self.placement.header(position).map_err(refused)?);
        // Credentials are for the server in the spec, wherever a page leads.
        if may_lead(&self.url, &url, &[])
            && let Some(value) = self.authorization.header(&self.client, &self.timeouts).await?
        {
            headers.insert(AUTHORIZATION, value);
        }
        let request = match self.http.method {
            Method::Get => self.client.get(url),
            Method::Post => {
                let body = self.http.body.as_deref().unwrap_or_default();
                self.client.post(url).body(self.placement.body(body, position).map_err(refused)?)
            }
        };
        let credentials = Credentials::of(&headers);
        let response = self.timeouts.send(request.headers(headers)).await;
        let response = response.map_err(|e| RequestError::retryable(format!("{} {e}", self.host())))?;
        if response.status() == StatusCode::UNAUTHORIZED && self.authorization.discard_token().await {
            let error = format!("{} no longer accepts the OAuth 2.0 token", self.host());
            return Err(RequestError::retryable(error));
        }
        Ok((response, credentials))
    }

    /// The error of a response that is not a success.
    async fn error(&self, response: Response, pause: Option<Duration>, credentials: &Credentials) -> RequestError {
        let status = response.status();
        if status.is_redirection() {
            return RequestError::Permanent(Failure::configuration(
                SOURCE_REFUSED,
                format!(
                    "{} responded with {status}, a redirect to {}, which is not followed: redirects may lead to the same host and to spec.source.http.allowedHosts",
                    self.host(),
                    redirect_host(&response)
                ),
            ));
        }
        let headers = response.headers().clone();
        let body = body::beginning(response, MAX_ERROR, &self.timeouts).await;
        self.error_of(status, &headers, &body, pause, credentials)
    }

    fn error_of(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
        pause: Option<Duration>,
        credentials: &Credentials,
    ) -> RequestError {
        let error = format!("{} responded with {status}{}", self.host(), quote(headers, body, credentials));
        let is_transient = status.is_server_error() || TRANSIENT.contains(&status.as_u16());
        let is_limited = status == StatusCode::FORBIDDEN && pause.is_some();
        if is_transient || is_limited {
            return RequestError::Retryable { error, retry_after: pause };
        }
        let hint = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                "check the credentials in spec.source.http.auth or spec.source.http.headers"
            }
            _ => "check the url, query and body in spec.source.http",
        };
        RequestError::Permanent(Failure::configuration(SOURCE_REFUSED, format!("{error}: {hint}")))
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

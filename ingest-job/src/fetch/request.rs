//! One request to the source.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::{
    Certificate, Client, ClientBuilder, Identity, Response, StatusCode, Url,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER},
    redirect::{Attempt, Policy},
};
use userpipeline_api::{HttpSource, Method, bytes};
use userpipeline_stores::{Secrets, error::with_causes};

use super::{
    auth::Authorization,
    backoff, body,
    paging::{Next, Paging, Position},
    waits::Waits,
};
use crate::{
    outcome::{Failure, PIPELINE_INVALID, SOURCE_REFUSED},
    page::Item,
};

const USER_AGENT: &str = concat!("userpipeline-ingest/", env!("CARGO_PKG_VERSION"));
const MAX_REDIRECTS: usize = 5;
/// Where in an answer the items are, where the spec does not say.
const DEFAULT_ITEMS: &str = "/results";

/// Why a request gave no page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The source may do better next time.
    Passing {
        /// What was wrong.
        error: String,
        /// How long the source asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// It will not, as long as the request is what it is.
    Lasting(Failure),
}

impl Fault {
    pub(super) fn passing(error: impl Into<String>) -> Self {
        Self::Passing {
            error: error.into(),
            retry_after: None,
        }
    }
}

/// The request of a pipeline, ready to be sent again and again.
pub struct Request {
    client: Client,
    waits: Waits,
    url: Url,
    http: HttpSource,
    secrets: Secrets,
    authorization: Authorization,
    paging: Paging,
    max_body: u64,
}

/// A page, and what comes behind it.
#[derive(Debug)]
pub struct Answer {
    /// Its items.
    pub items: Vec<Item>,
    /// The answer that had them.
    pub body: Vec<u8>,
    /// What comes behind it.
    pub next: Next,
}

impl Request {
    /// The request that the spec describes.
    pub fn new(http: &HttpSource, secrets: &Secrets) -> Result<Self, Failure> {
        let invalid =
            |field: &str, e: &dyn std::fmt::Display| Failure::configuration(PIPELINE_INVALID, format!("spec.source.http.{field}: {e}"));
        let url = address(http)?;
        let client = Client::builder()
            .user_agent(USER_AGENT)
            .redirect(redirects(http.allowed_hosts.clone()));
        let waits = Waits::of(http);
        let client = certificates(waits.bounded(client), http, secrets)?;
        let client = client.build().map_err(|e| invalid("tls", &explained(e)))?;
        Ok(Self {
            client,
            waits,
            url,
            http: http.clone(),
            secrets: secrets.clone(),
            authorization: Authorization::of(http.auth.as_ref(), secrets),
            paging: Paging::of(&http.pagination),
            max_body: bytes(&http.max_body_size).map_err(|e| invalid("maxBodySize", &e))?,
        })
    }

    /// Asks otherwise from now on: with another cursor.
    pub fn ask_for(&mut self, http: &HttpSource) -> Result<(), Failure> {
        self.url = address(http)?;
        self.http = http.clone();
        Ok(())
    }

    /// Where a run begins.
    pub fn first(&self) -> Position {
        self.paging.first()
    }

    /// Asks once for the page at a position.
    pub async fn send(&self, at: &Position) -> Result<Answer, Fault> {
        let url = self.paging.address(&self.url, at);
        if !may_lead(&self.url, &url, &self.http.allowed_hosts) {
            let message = "the header Link leads to another server, which is followed only where spec.source.http.allowedHosts names it";
            return Err(Fault::Lasting(Failure::configuration(SOURCE_REFUSED, message)));
        }
        let mut headers = self.headers().map_err(Fault::Lasting)?;
        // Credentials are for the server that the spec names, wherever a Link leads.
        if may_lead(&self.url, &url, &[])
            && let Some(value) = self.authorization.header(&self.client, &self.waits).await?
        {
            headers.insert(AUTHORIZATION, value);
        }
        let request = match self.http.method {
            Method::Get => self.client.get(url.clone()),
            Method::Post => self.client.post(url.clone()).body(self.http.body.clone().unwrap_or_default()),
        };
        let answer = self.waits.answer(request.headers(headers)).await;
        let response = answer.map_err(|e| Fault::passing(format!("{} {e}", self.host())))?;
        if response.status() == StatusCode::UNAUTHORIZED && self.authorization.refused().await {
            return Err(Fault::passing(format!("{} refused a token that was good before", self.host())));
        }
        let response = self.accepted(response)?;
        let (status, headers, answered) = (response.status(), response.headers().clone(), response.url().clone());
        let body = body::read(response, self.max_body, &self.waits).await.map_err(Fault::passing)?;
        tracing::debug!(bytes = body.len(), "answer");
        let pointer = self.http.items.as_deref().unwrap_or(DEFAULT_ITEMS);
        let items = if status == StatusCode::NO_CONTENT {
            Vec::new()
        } else {
            body::items(&body, self.http.format, pointer).map_err(Fault::passing)?
        };
        let next = self
            .paging
            .next(at, &answered, items.len(), &headers, &body)
            .map_err(Fault::passing)?;
        Ok(Answer { items, body, next })
    }

    /// The headers. Secrets are read for each request, so that a rotated one takes effect in a long run.
    fn headers(&self) -> Result<HeaderMap, Failure> {
        let mut headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]);
        if self.http.method == Method::Post {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        for (i, header) in self.http.headers.iter().enumerate() {
            let field = format!("spec.source.http.headers[{i}]");
            let name = HeaderName::from_bytes(header.name.as_bytes())
                .map_err(|_| Failure::configuration(PIPELINE_INVALID, format!("{field}.name is no name of a header")))?;
            // Without the value, which may be secret.
            let unfit = || {
                Failure::configuration(
                    PIPELINE_INVALID,
                    format!("{field} ({name}): the value has characters that a header cannot hold"),
                )
            };
            let value = match (&header.value, &header.value_from) {
                (_, Some(from)) => {
                    let key = &from.secret_key_ref;
                    let text = self
                        .secrets
                        .value(&key.name, &key.key, &format!("{field}.valueFrom.secretKeyRef"))?;
                    let mut value = HeaderValue::from_str(&text).map_err(|_| unfit())?;
                    value.set_sensitive(true);
                    value
                }
                (Some(text), None) => HeaderValue::from_str(text).map_err(|_| unfit())?,
                (None, None) => {
                    return Err(Failure::configuration(
                        PIPELINE_INVALID,
                        format!("{field} ({name}) has neither value nor valueFrom"),
                    ));
                }
            };
            headers.insert(name, value);
        }
        Ok(headers)
    }

    fn accepted(&self, response: Response) -> Result<Response, Fault> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let refused = |what: &str| format!("{} answered {status}{what}", self.host());
        if status.is_redirection() {
            let to = response
                .headers()
                .get("location")
                .and_then(|l| l.to_str().ok())
                .and_then(|l| response.url().join(l).ok());
            let to = to.as_ref().and_then(Url::host_str).unwrap_or("nowhere");
            let what = format!(
                ", a redirect to {to} that is not followed: only a few on the same host are, and those to spec.source.http.allowedHosts"
            );
            return Err(Fault::Lasting(Failure::configuration(SOURCE_REFUSED, refused(&what))));
        }
        Err(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Fault::Lasting(Failure::configuration(
                SOURCE_REFUSED,
                refused(": check the credentials in spec.source.http.auth, or headers"),
            )),
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::REQUEST_TIMEOUT => {
                Fault::Passing {
                    error: refused(""),
                    retry_after: retry_after(&response),
                }
            }
            _ => Fault::Lasting(Failure::retry(
                SOURCE_REFUSED,
                refused(": the request is not what the source expects"),
            )),
        })
    }

    /// Host and port only: a path or query may carry what is nobody's business.
    fn host(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        self.url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }
}

/// How long an answer asks to be left alone.
pub(super) fn retry_after(response: &Response) -> Option<Duration> {
    let header = response.headers().get(RETRY_AFTER).and_then(|h| h.to_str().ok());
    header.and_then(|h| backoff::retry_after(h, Timestamp::now()))
}

/// The address with its parameters.
fn address(http: &HttpSource) -> Result<Url, Failure> {
    let invalid = |e| Failure::configuration(PIPELINE_INVALID, format!("spec.source.http.url: {e}"));
    let mut url = Url::parse(&http.url).map_err(invalid)?;
    if !http.query.is_empty() {
        url.query_pairs_mut().extend_pairs(http.query.iter().map(|q| (&q.name, &q.value)));
    }
    Ok(url)
}

/// The certificates that the spec names.
fn certificates(mut client: ClientBuilder, http: &HttpSource, secrets: &Secrets) -> Result<ClientBuilder, Failure> {
    let unfit = |field: &str, e: reqwest::Error| {
        let message = format!(
            "spec.source.http.tls.{field}: the Secret has no certificate in PEM that can be used: {}",
            explained(e)
        );
        Failure::configuration(PIPELINE_INVALID, message)
    };
    if let Some(ca) = &http.tls.ca {
        let key = &ca.secret_key_ref;
        let pem = secrets.value(&key.name, &key.key, "spec.source.http.tls.ca.secretKeyRef")?;
        for certificate in Certificate::from_pem_bundle(pem.as_bytes()).map_err(|e| unfit("ca", e))? {
            client = client.add_root_certificate(certificate);
        }
    }
    if let Some(secret) = &http.tls.client_secret_ref {
        let value = |key: &str| secrets.value(&secret.name, key, "spec.source.http.tls.clientSecretRef");
        let pem = format!("{}\n{}", value("tls.crt")?, value("tls.key")?);
        client = client.identity(Identity::from_pem(pem.as_bytes()).map_err(|e| unfit("clientSecretRef", e))?);
    }
    Ok(client)
}

/// Follows redirects on the same host, and to those that the spec allows: requests carry credentials, and the spec names whom they
/// are for.
fn redirects(allowed: Vec<String>) -> Policy {
    Policy::custom(move |attempt: Attempt<'_>| {
        let first = attempt.previous().first();
        if first.is_some_and(|first| may_lead(first, attempt.url(), &allowed)) && attempt.previous().len() <= MAX_REDIRECTS {
            attempt.follow()
        } else {
            attempt.stop()
        }
    })
}

/// Whether a request to one address may go on to another: on the same host and port, from http to https, each on its own port, or to
/// a host that is allowed.
fn may_lead(from: &Url, to: &Url, allowed: &[String]) -> bool {
    if from.scheme() == "https" && to.scheme() != "https" {
        return false;
    }
    let upgrade = from.scheme() == "http" && to.scheme() == "https" && from.port().is_none() && to.port().is_none();
    let same_port = from.scheme() == to.scheme() && from.port_or_known_default() == to.port_or_known_default();
    let host = to.host_str().unwrap_or_default();
    let named = |name: &String| match to.port() {
        None => name.eq_ignore_ascii_case(host),
        Some(port) => name.eq_ignore_ascii_case(&format!("{host}:{port}")),
    };
    (from.host_str() == to.host_str() && (upgrade || same_port)) || allowed.iter().any(named)
}

/// An error of the client and what caused it, without the address.
pub(super) fn explained(e: reqwest::Error) -> String {
    with_causes(&e.without_url())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_stays_on_its_server_or_goes_to_one_that_is_allowed() {
        let allowed = ["files.a".to_owned(), "B:8080".to_owned()];
        for (from, to, follows) in [
            ("http://a/x", "http://a/y", true),
            ("https://a/x", "https://files.a/y", true),
            ("https://a/x", "http://files.a/y", false),
            ("http://a/x", "http://b:8080/y", true),
            ("http://a/x", "http://b:8081/y", false),
            ("http://a/x", "http://files.a.evil/y", false),
            ("http://a", "http://a:80/", true),
            ("http://a/", "https://a/", true),
            ("https://a/", "http://a/", false),
            ("http://a/", "http://b/", false),
            ("http://a/", "http://a:8080/", false),
            ("http://a:8080/", "https://a/", false),
            ("http://a.b/", "http://b/", false),
        ] {
            assert_eq!(
                may_lead(&Url::parse(from).unwrap(), &Url::parse(to).unwrap(), &allowed),
                follows,
                "{from} {to}"
            );
        }
    }
}

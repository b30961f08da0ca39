//! The header `Authorization`.

use std::time::{Duration, Instant};

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use reqwest::{
    Client, StatusCode,
    header::{HeaderMap, HeaderValue},
};
use serde::Deserialize;
use serde_json::Value as Json;
use tokio::sync::Mutex;
use userpipeline_api::{Auth, OAuth2};
use userpipeline_stores::Secrets;

use super::{
    body,
    error::RequestError,
    pause::requested_pause,
    quote::{Credentials, quote},
    timeouts::Timeouts,
};
use crate::outcome::{Failure, PIPELINE_INVALID, SOURCE_REFUSED};

const FIELD: &str = "spec.source.http.auth";
/// A token is renewed this long before it expires.
const RENEW_BEFORE_EXPIRY: Duration = Duration::from_secs(30);
/// The lifetime of a token without `expires_in`.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(300);
/// A longer `expires_in` is cut to this.
const MAX_LIFETIME: Duration = Duration::from_secs(86_400);
/// The largest response of the token endpoint, in bytes.
const MAX_RESPONSE: u64 = 64 << 10;

pub struct Authorization {
    auth: Option<Auth>,
    secrets: Secrets,
    token: Mutex<Option<Token>>,
}

/// An OAuth 2.0 access token.
struct Token {
    header: HeaderValue,
    expires_at: Instant,
    /// No request has used it yet.
    is_new: bool,
}

#[derive(Deserialize)]
struct TokenResponse {
    access_token: String,
    #[serde(default)]
    expires_in: Json,
}

impl TokenResponse {
    /// `expires_in` is a number of seconds; some servers write it as text.
    fn lifetime(&self) -> Duration {
        let seconds = match &self.expires_in {
            Json::Number(number) => number.as_f64(),
            Json::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        let seconds = seconds.filter(|seconds: &f64| *seconds >= 0.0);
        seconds.map_or(DEFAULT_LIFETIME, |seconds| {
            Duration::from_secs_f64(seconds.min(MAX_LIFETIME.as_secs_f64()))
        })
    }
}

impl Authorization {
    pub fn of(auth: Option<&Auth>, secrets: &Secrets) -> Self {
        Self {
            auth: auth.cloned(),
            secrets: secrets.clone(),
            token: Mutex::default(),
        }
    }

    /// The header's value, if the spec sets one. Secrets are read for each request, so that a rotated one takes effect during a run.
    pub async fn header(&self, client: &Client, timeouts: &Timeouts) -> Result<Option<HeaderValue>, RequestError> {
        let Some(auth) = &self.auth else { return Ok(None) };
        let permanent = |e: userpipeline_stores::StoreError| RequestError::Permanent(e.into());
        if let Some(basic) = &auth.basic {
            let field = format!("{FIELD}.basic.credentialsSecretRef");
            let credentials = self.secrets.credentials(&basic.credentials_secret_ref.name, &field);
            let credentials = credentials.map_err(permanent)?;
            let pair = format!("{}:{}", credentials.username, credentials.password);
            return sensitive(&format!("Basic {}", STANDARD.encode(pair)), "basic").map(Some);
        }
        if let Some(bearer) = &auth.bearer {
            let key = &bearer.secret_key_ref;
            let token = self.secrets.value(&key.name, &key.key, &format!("{FIELD}.bearer.secretKeyRef"));
            return sensitive(&format!("Bearer {}", token.map_err(permanent)?), "bearer").map(Some);
        }
        let Some(oauth2) = &auth.oauth2 else { return Ok(None) };
        let mut token = self.token.lock().await;
        if let Some(token) = token.as_mut().filter(|token| token.expires_at > Instant::now()) {
            token.is_new = false;
            return Ok(Some(token.header.clone()));
        }
        let requested = self.request_token(client, timeouts, oauth2).await?;
        let header = requested.header.clone();
        *token = Some(requested);
        Ok(Some(header))
    }

    /// Discards the token that the source refused. Returns whether another token may be accepted: not after a new one.
    pub async fn discard_token(&self) -> bool {
        self.token.lock().await.take().is_some_and(|token| !token.is_new)
    }

    async fn request_token(&self, client: &Client, timeouts: &Timeouts, oauth2: &OAuth2) -> Result<Token, RequestError> {
        let field = format!("{FIELD}.oauth2.credentialsSecretRef");
        let credentials = self.secrets.credentials(&oauth2.credentials_secret_ref.name, &field);
        let credentials = credentials.map_err(|e| RequestError::Permanent(e.into()))?;
        let mut form = vec![("grant_type", "client_credentials".to_owned())];
        if !oauth2.scopes.is_empty() {
            form.push(("scope", oauth2.scopes.join(" ")));
        }
        let request = client
            .post(&oauth2.token_url)
            .basic_auth(credentials.username, Some(credentials.password))
            .form(&form);
        let response = timeouts.send(request).await.map_err(|e| endpoint_failed(&e))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = body::read(response, MAX_RESPONSE, timeouts).await;
        let body = body.map_err(|e| endpoint_failed(&format!("failed: {e}")))?;
        check_status(status, &headers, &body)?;
        // The message leaves out the response, which is secret.
        let response: TokenResponse =
            serde_json::from_slice(&body).map_err(|_| endpoint_failed("returned no JSON with an access_token"))?;
        let lifetime = response.lifetime();
        Ok(Token {
            header: sensitive(&format!("Bearer {}", response.access_token), "oauth2")?,
            expires_at: Instant::now() + lifetime.saturating_sub(RENEW_BEFORE_EXPIRY).max(lifetime / 2),
            is_new: true,
        })
    }
}

fn endpoint_failed(problem: &str) -> RequestError {
    RequestError::retryable(format!("the token endpoint ({FIELD}.oauth2.tokenUrl) {problem}"))
}

fn check_status(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Result<(), RequestError> {
    let error = || {
        let quoted = quote(headers, body, &Credentials::default());
        format!("the token endpoint ({FIELD}.oauth2.tokenUrl) responded with {status}{quoted}")
    };
    match status {
        StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            let message = format!("{}: check {FIELD}.oauth2 and its Secret", error());
            Err(RequestError::Permanent(Failure::configuration(SOURCE_REFUSED, message)))
        }
        status if status.is_success() => Ok(()),
        _ => Err(RequestError::Retryable {
            error: error(),
            retry_after: requested_pause(headers, Timestamp::now()),
        }),
    }
}

/// A header value that is not logged.
fn sensitive(text: &str, kind: &str) -> Result<HeaderValue, RequestError> {
    let invalid = |_| {
        let message = format!("{FIELD}.{kind} has a value with characters that a header cannot contain");
        RequestError::Permanent(Failure::configuration(PIPELINE_INVALID, message))
    };
    let mut value = HeaderValue::from_str(text).map_err(invalid)?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_lifetime_of_a_token_is_a_number_or_text() {
        for (expires_in, seconds) in [
            (json!(3600), 3600),
            (json!("3599"), 3599),
            (json!(3600.0), 3600),
            (json!(u64::MAX), 86_400),
            (json!(-1), 300),
            (json!("soon"), 300),
            (json!(null), 300),
        ] {
            let response: TokenResponse = serde_json::from_value(json!({"access_token": "t", "expires_in": expires_in})).unwrap();
            assert_eq!(response.lifetime(), Duration::from_secs(seconds), "{expires_in}");
        }
        let silent: TokenResponse = serde_json::from_value(json!({"access_token": "t"})).unwrap();
        assert_eq!(silent.lifetime(), DEFAULT_LIFETIME);
    }
}

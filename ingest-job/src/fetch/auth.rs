//! Who asks: the header `Authorization`.

use std::time::{Duration, Instant};

use reqwest::{Client, StatusCode, header::HeaderValue};
use serde::Deserialize;
use serde_json::Value as Json;
use tokio::sync::Mutex;
use userpipeline_api::{Auth, OAuth2};
use userpipeline_stores::Secrets;

use super::{
    body,
    request::{Fault, retry_after},
    waits::Waits,
};
use crate::outcome::{Failure, PIPELINE_INVALID, SOURCE_REFUSED};

const FIELD: &str = "spec.source.http.auth";
/// A token is asked for anew so long before it expires.
const EARLY: Duration = Duration::from_secs(30);
/// How long a token is good that does not say so.
const ASSUMED: Duration = Duration::from_secs(300);
/// A token is asked for anew after this time, however long it says that it is good.
const LONGEST: Duration = Duration::from_secs(86_400);
/// The largest answer of a token's address.
const MAX_ANSWER: u64 = 64 << 10;

/// Who asks.
pub struct Authorization {
    auth: Option<Auth>,
    secrets: Secrets,
    token: Mutex<Option<Token>>,
}

struct Token {
    header: HeaderValue,
    until: Instant,
    /// Whether nothing has been asked with it before.
    fresh: bool,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    #[serde(default)]
    expires_in: Json,
}

impl Granted {
    /// A number of seconds; some say it as text.
    fn good_for(&self) -> Duration {
        let seconds = match &self.expires_in {
            Json::Number(number) => number.as_f64(),
            Json::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        let seconds = seconds.filter(|seconds: &f64| *seconds >= 0.0);
        seconds.map_or(ASSUMED, |seconds| Duration::from_secs_f64(seconds.min(LONGEST.as_secs_f64())))
    }
}

impl Authorization {
    /// As the spec says.
    pub fn of(auth: Option<&Auth>, secrets: &Secrets) -> Self {
        Self {
            auth: auth.cloned(),
            secrets: secrets.clone(),
            token: Mutex::default(),
        }
    }

    /// The header's value, if there is to be one. Secrets are read for each request, so that a rotated one takes effect in a long run.
    pub async fn header(&self, client: &Client, waits: &Waits) -> Result<Option<HeaderValue>, Fault> {
        let Some(auth) = &self.auth else { return Ok(None) };
        let lasting = |e: userpipeline_stores::StoreError| Fault::Lasting(e.into());
        if let Some(basic) = &auth.basic {
            let field = format!("{FIELD}.basic.credentialsSecretRef");
            let credentials = self
                .secrets
                .credentials(&basic.credentials_secret_ref.name, &field)
                .map_err(lasting)?;
            let pair = format!("{}:{}", credentials.username, credentials.password);
            return secret(&format!("Basic {}", base64(&pair)), "basic").map(Some);
        }
        if let Some(bearer) = &auth.bearer {
            let key = &bearer.secret_key_ref;
            let token = self
                .secrets
                .value(&key.name, &key.key, &format!("{FIELD}.bearer.secretKeyRef"))
                .map_err(lasting)?;
            return secret(&format!("Bearer {token}"), "bearer").map(Some);
        }
        let Some(oauth2) = &auth.oauth2 else { return Ok(None) };
        let mut token = self.token.lock().await;
        if let Some(token) = token.as_mut().filter(|token| token.until > Instant::now()) {
            token.fresh = false;
            return Ok(Some(token.header.clone()));
        }
        let granted = self.ask(client, waits, oauth2).await?;
        let header = granted.header.clone();
        *token = Some(granted);
        Ok(Some(header))
    }

    /// The source has refused: whether another token may be accepted. After one that was just granted, none would be.
    pub async fn refused(&self) -> bool {
        self.token.lock().await.take().is_some_and(|token| !token.fresh)
    }

    async fn ask(&self, client: &Client, waits: &Waits, oauth2: &OAuth2) -> Result<Token, Fault> {
        let field = format!("{FIELD}.oauth2.credentialsSecretRef");
        let credentials = self.secrets.credentials(&oauth2.credentials_secret_ref.name, &field);
        let credentials = credentials.map_err(|e| Fault::Lasting(e.into()))?;
        let mut form = vec![("grant_type", "client_credentials".to_owned())];
        if !oauth2.scopes.is_empty() {
            form.push(("scope", oauth2.scopes.join(" ")));
        }
        let passing = |what: String| Fault::passing(format!("the token's address ({FIELD}.oauth2.tokenUrl) {what}"));
        let request = client
            .post(&oauth2.token_url)
            .basic_auth(credentials.username, Some(credentials.password))
            .form(&form);
        let response = waits.answer(request).await.map_err(passing)?;
        let status = response.status();
        if matches!(status, StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            let message = format!("the token's address answered {status}: check {FIELD}.oauth2 and the Secret that it names");
            return Err(Fault::Lasting(Failure::configuration(SOURCE_REFUSED, message)));
        }
        if !status.is_success() {
            return Err(Fault::Passing {
                error: format!("the token's address ({FIELD}.oauth2.tokenUrl) answered {status}"),
                retry_after: retry_after(&response),
            });
        }
        let answer = body::read(response, MAX_ANSWER, waits).await.map_err(passing)?;
        // Without the answer, which is secret.
        let granted: Granted = serde_json::from_slice(&answer).map_err(|_| passing("gave no JSON with an access_token".to_owned()))?;
        let good_for = granted.good_for();
        Ok(Token {
            header: secret(&format!("Bearer {}", granted.access_token), "oauth2")?,
            until: Instant::now() + good_for.saturating_sub(EARLY).max(good_for / 2),
            fresh: true,
        })
    }
}

fn base64(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}

fn secret(text: &str, kind: &str) -> Result<HeaderValue, Fault> {
    let unfit = |_| {
        let message = format!("{FIELD}.{kind}: the value has characters that a header cannot hold");
        Fault::Lasting(Failure::configuration(PIPELINE_INVALID, message))
    };
    let mut value = HeaderValue::from_str(text).map_err(unfit)?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio_util::sync::CancellationToken;
    use userpipeline_api::report::exit;
    use wiremock::{
        Mock, MockServer, ResponseTemplate,
        matchers::{basic_auth, body_string, header, method, path},
    };

    use super::super::Source;
    use super::*;
    use crate::outcome::End;

    /// A source with Secrets `who` (ann, pw) and `token` (key `t`).
    fn source(server: &MockServer, auth: &serde_json::Value) -> (Source, tempfile::TempDir) {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        for (file, value) in [("who/username", "ann"), ("who/password", "pw"), ("token/t", "secret")] {
            let file = dir.path().join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, value).unwrap();
        }
        let http = json!({"url": format!("{}/items", server.uri()), "runDuration": "10s", "rateLimit": {"requests": 100, "per": "10ms"}, "items": "", "auth": auth, "pagination": {"type": "Page", "parameter": "page"}});
        let source = Source::new(&serde_json::from_value(http).unwrap(), &Secrets::in_dir(dir.path())).unwrap();
        (source, dir)
    }

    fn oauth2(server: &MockServer) -> serde_json::Value {
        json!({"oauth2": {"tokenUrl": format!("{}/token", server.uri()), "credentialsSecretRef": {"name": "who"}, "scopes": ["a", "b"]}})
    }

    async fn next(source: &mut Source) -> Result<usize, End> {
        source.next(&CancellationToken::new()).await.map(|answer| answer.items.len())
    }

    fn items() -> ResponseTemplate {
        ResponseTemplate::new(200).set_body_json(json!([1]))
    }

    async fn refusal(source: &mut Source) -> Failure {
        match next(source).await {
            Err(End::Refused(failure)) => failure,
            other => panic!("not refused: {other:?}"),
        }
    }

    #[tokio::test]
    async fn a_user_name_and_a_token_go_with_each_request() {
        let server = MockServer::start().await;
        Mock::given(basic_auth("ann", "pw"))
            .respond_with(items())
            .expect(1)
            .mount(&server)
            .await;
        Mock::given(header("Authorization", "Bearer secret"))
            .respond_with(items())
            .expect(1)
            .mount(&server)
            .await;
        for auth in [
            json!({"basic": {"credentialsSecretRef": {"name": "who"}}}),
            json!({"bearer": {"secretKeyRef": {"name": "token", "key": "t"}}}),
        ] {
            assert_eq!(next(&mut source(&server, &auth).0).await.unwrap(), 1);
        }
    }

    #[test]
    fn how_long_a_token_is_good_is_a_number_or_text() {
        for (expires_in, seconds) in [
            (json!(3600), 3600),
            (json!("3599"), 3599),
            (json!(3600.0), 3600),
            (json!(u64::MAX), 86_400),
            (json!(-1), 300),
            (json!("soon"), 300),
            (json!(null), 300),
        ] {
            let granted: Granted = serde_json::from_value(json!({"access_token": "t", "expires_in": expires_in})).unwrap();
            assert_eq!(granted.good_for(), Duration::from_secs(seconds), "{expires_in}");
        }
        let silent: Granted = serde_json::from_value(json!({"access_token": "t"})).unwrap();
        assert_eq!(silent.good_for(), ASSUMED);
    }

    #[tokio::test]
    async fn a_token_that_expires_is_followed_by_another() {
        let server = MockServer::start().await;
        for (name, expires_in) in [("one", "1"), ("two", "3600")] {
            Mock::given(path("/token"))
                .respond_with(ResponseTemplate::new(200).set_body_json(json!({"access_token": name, "expires_in": expires_in})))
                .up_to_n_times(1)
                .expect(1)
                .mount(&server)
                .await;
        }
        for name in ["one", "two"] {
            Mock::given(header("Authorization", format!("Bearer {name}")))
                .respond_with(items())
                .expect(1)
                .mount(&server)
                .await;
        }
        let (mut source, _dir) = source(&server, &oauth2(&server));
        assert_eq!(next(&mut source).await, Ok(1));
        tokio::time::sleep(Duration::from_millis(600)).await;
        assert_eq!(next(&mut source).await, Ok(1));
    }

    #[tokio::test]
    async fn a_token_is_asked_for_once_and_anew_when_it_is_refused() {
        let server = MockServer::start().await;
        let token = |name: &str| {
            ResponseTemplate::new(200).set_body_json(json!({"access_token": name, "token_type": "bearer", "expires_in": 3600}))
        };
        let asked = || {
            Mock::given(method("POST"))
                .and(path("/token"))
                .and(basic_auth("ann", "pw"))
                .and(body_string("grant_type=client_credentials&scope=a+b"))
        };
        asked().respond_with(token("one")).up_to_n_times(1).expect(1).mount(&server).await;
        asked().respond_with(token("two")).expect(1).mount(&server).await;
        Mock::given(header("Authorization", "Bearer one"))
            .respond_with(items())
            .up_to_n_times(2)
            .mount(&server)
            .await;
        Mock::given(header("Authorization", "Bearer one"))
            .respond_with(ResponseTemplate::new(401))
            .mount(&server)
            .await;
        Mock::given(header("Authorization", "Bearer two"))
            .respond_with(items())
            .mount(&server)
            .await;
        let (mut source, _dir) = source(&server, &oauth2(&server));
        for _ in 0..4 {
            assert_eq!(next(&mut source).await.unwrap(), 1);
        }
    }

    #[tokio::test]
    async fn a_source_that_refuses_each_token_is_not_asked_again_and_again() {
        let server = MockServer::start().await;
        let token = json!({"access_token": "one", "token_type": "bearer", "expires_in": 3600});
        Mock::given(path("/token"))
            .respond_with(ResponseTemplate::new(200).set_body_json(token))
            .expect(1)
            .mount(&server)
            .await;
        Mock::given(header("Authorization", "Bearer one"))
            .respond_with(ResponseTemplate::new(401))
            .expect(1)
            .mount(&server)
            .await;
        let (mut source, _dir) = source(&server, &oauth2(&server));
        let failure = refusal(&mut source).await;
        assert_eq!((failure.exit, failure.reason), (exit::CONFIGURATION, SOURCE_REFUSED));
    }

    #[tokio::test]
    async fn a_client_that_is_refused_is_the_configurations_fault_and_no_secret_is_told() {
        let server = MockServer::start().await;
        Mock::given(path("/token"))
            .respond_with(ResponseTemplate::new(401))
            .mount(&server)
            .await;
        let (mut source, _dir) = source(&server, &oauth2(&server));
        let failure = refusal(&mut source).await;
        assert_eq!((failure.exit, failure.reason), (exit::CONFIGURATION, SOURCE_REFUSED));
        assert!(
            failure.message.contains("spec.source.http.auth.oauth2") && !failure.message.contains("pw"),
            "{}",
            failure.message
        );
    }

    #[tokio::test]
    async fn a_secret_that_is_missing_is_named() {
        let server = MockServer::start().await;
        let (mut source, _dir) = source(&server, &json!({"basic": {"credentialsSecretRef": {"name": "nobody"}}}));
        let failure = refusal(&mut source).await;
        assert!(
            failure
                .message
                .contains("`nobody` (spec.source.http.auth.basic.credentialsSecretRef)"),
            "{}",
            failure.message
        );
    }
}

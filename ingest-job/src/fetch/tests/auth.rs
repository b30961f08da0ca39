//! Sources that require authentication.

use wiremock::matchers::{basic_auth, body_string};

use super::*;

/// A source with Secrets `who` (ann, pw) and `token` (key `t`).
fn source(server: &MockServer, auth: &serde_json::Value) -> (Source, tempfile::TempDir) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    for (file, value) in [("who/username", "ann"), ("who/password", "pw"), ("token/t", "secret")] {
        let file = dir.path().join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, value).unwrap();
    }
    let http = json!({"url": format!("{}/items", server.uri()), "runDuration": "10s", "rateLimit": {"requests": 100, "per": "10ms"}, "items": "", "auth": auth, "pagination": {"type": "Repeat"}});
    let source = Source::new(&serde_json::from_value(http).unwrap(), &Secrets::in_dir(dir.path())).unwrap();
    (source, dir)
}

fn oauth2(server: &MockServer) -> serde_json::Value {
    json!({"oauth2": {"tokenUrl": format!("{}/token", server.uri()), "credentialsSecretRef": {"name": "who"}, "scopes": ["a", "b"]}})
}

fn items() -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(json!([1]))
}

async fn refusal(source: &mut Source) -> Failure {
    match next(source).await {
        Err(FetchEnd::Refused(failure)) => failure,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn each_request_has_the_credentials() {
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

#[tokio::test]
async fn an_expired_token_is_renewed() {
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
async fn a_token_is_requested_once_and_again_when_it_is_refused() {
    let server = MockServer::start().await;
    let token =
        |name: &str| ResponseTemplate::new(200).set_body_json(json!({"access_token": name, "token_type": "bearer", "expires_in": 3600}));
    let expect = || {
        Mock::given(method("POST"))
            .and(path("/token"))
            .and(basic_auth("ann", "pw"))
            .and(body_string("grant_type=client_credentials&scope=a+b"))
    };
    expect().respond_with(token("one")).up_to_n_times(1).expect(1).mount(&server).await;
    expect().respond_with(token("two")).expect(1).mount(&server).await;
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
async fn a_source_that_refuses_a_new_token_ends_the_run() {
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
async fn a_refused_client_is_a_configuration_error_without_the_secret() {
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
async fn a_missing_secret_is_named() {
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

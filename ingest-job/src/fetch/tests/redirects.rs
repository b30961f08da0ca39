//! Servers that redirect, or link to another server.

use super::*;

#[tokio::test]
async fn a_redirect_to_another_host_is_refused_and_one_on_the_same_host_is_followed() {
    let other = server(page(), 9).await;
    let away = server(ResponseTemplate::new(302).insert_header("location", other.uri()), 1).await;
    let Err(FetchEnd::Refused(failure)) = next(&mut source(&away.uri(), &json!({}))).await else {
        panic!()
    };
    assert_eq!((failure.reason, failure.exit), (SOURCE_REFUSED, exit::CONFIGURATION));
    assert!(failure.message.contains("redirect to 127.0.0.1"), "{}", failure.message);
    assert!(other.received_requests().await.unwrap().is_empty());

    let home = server(ResponseTemplate::new(302).insert_header("location", "/elsewhere"), 1).await;
    assert_eq!(next(&mut source(&home.uri(), &json!({}))).await, Ok(2));

    let round = server(ResponseTemplate::new(302).insert_header("location", "/again"), 99).await;
    assert!(matches!(
        next(&mut source(&round.uri(), &json!({}))).await,
        Err(FetchEnd::Refused(_))
    ));
}

#[tokio::test]
async fn a_link_to_an_allowed_server_is_followed_without_credentials() {
    // Given a server that redirects to another one, whose Link is relative
    let (first, other) = (MockServer::start().await, MockServer::start().await);
    let elsewhere = format!("{}/v3/items", other.uri());
    Mock::given(method("GET"))
        .respond_with(ResponseTemplate::new(302).insert_header("location", elsewhere.as_str()))
        .mount(&first)
        .await;
    let last_page = || ResponseTemplate::new(200).set_body_json(json!({"results": [{"a": 3}, {"a": 4}]}));
    Mock::given(query_param("page", "2")).respond_with(last_page()).mount(&other).await;
    Mock::given(path("/v3/items"))
        .respond_with(page().insert_header("link", "</v3/items?page=2>; rel=\"next\""))
        .mount(&other)
        .await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("token")).unwrap();
    std::fs::write(folder.path().join("token/t"), "secret").unwrap();
    let http = json!({
        "url": format!("{}/latest", first.uri()), "runDuration": "3s", "rateLimit": {"requests": 100, "per": "10ms"},
        "pagination": {"type": "Link"}, "allowedHosts": [other.address().to_string()],
        "auth": {"bearer": {"secretKeyRef": {"name": "token", "key": "t"}}},
    });
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut source = Source::new(&serde_json::from_value(http).unwrap(), &Secrets::in_dir(folder.path())).unwrap();

    // When all pages are requested, then the last one comes from the other server
    assert_eq!(next(&mut source).await, Ok(2));
    assert_eq!(next(&mut source).await, Ok(2));
    assert_eq!(next(&mut source).await, Err(FetchEnd::Exhausted));

    // And only the server in the spec receives credentials
    let has_credentials = |requests: Vec<Received>| {
        requests
            .iter()
            .map(|request| request.headers.contains_key("authorization"))
            .collect::<Vec<_>>()
    };
    assert_eq!(has_credentials(first.received_requests().await.unwrap()), [true]);
    assert_eq!(has_credentials(other.received_requests().await.unwrap()), [false, false]);
}

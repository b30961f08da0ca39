//! The source against servers that fail, redirect, or are slow.

mod auth;
mod errors;
mod lines;
mod redirects;
mod timeouts;

use std::{io::Write, sync::Once, time::Duration};

use flate2::{Compression, write::GzEncoder};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use userpipeline_api::report::exit;
use wiremock::{
    Match, Mock, MockServer, Request as Received, ResponseTemplate,
    matchers::{header, method, path, query_param},
};

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use userpipeline_stores::Secrets;

use super::Source;
use crate::outcome::{Failure, FetchEnd, PIPELINE_INVALID, RESPONSE_INVALID, SOURCE_REFUSED};

fn source(url: &str, more: &serde_json::Value) -> Source {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| drop(rustls::crypto::aws_lc_rs::default_provider().install_default()));
    let mut http =
        json!({"url": url, "timeout": "500ms", "runDuration": "3s", "maxBodySize": "1Mi", "rateLimit": {"requests": 100, "per": "10ms"}});
    http["pagination"] = json!({"type": "Repeat"});
    http.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Source::new(&serde_json::from_value(http).unwrap(), &Secrets::in_dir("/nowhere")).unwrap()
}

fn page() -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(json!({"results": [{"a": 1}, {"a": 2}]}))
}

/// A server that responds so many times with `first`, then with pages.
async fn server(first: ResponseTemplate, times: u64) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(method("GET"))
        .respond_with(first)
        .up_to_n_times(times)
        .mount(&server)
        .await;
    Mock::given(method("GET")).respond_with(page()).mount(&server).await;
    server
}

async fn next(source: &mut Source) -> Result<usize, FetchEnd> {
    source
        .next(&CancellationToken::new(), async || Ok(0))
        .await
        .map(|page| page.items.len())
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

/// A server that sends the same bytes to each connection and closes it.
async fn raw_server(response: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = connection.read(&mut request).await;
            let _ = connection.write_all(response.as_bytes()).await;
        }
    });
    url
}

/// The error of a source that always fails.
async fn failing(url: &str, more: serde_json::Value) -> String {
    let mut more = more;
    more.as_object_mut().unwrap().entry("runDuration").or_insert(json!("1s"));
    match next(&mut source(url, &more)).await {
        Err(FetchEnd::SourceFailed { error, attempts, .. }) => {
            assert!(attempts >= 1);
            error
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_transient_error_is_retried() {
    for status in [408, 429, 500, 502, 503, 504] {
        let server = server(ResponseTemplate::new(status), 1).await;
        assert_eq!(next(&mut source(&server.uri(), &json!({}))).await, Ok(2), "{status}");
    }
}

#[tokio::test]
async fn a_refusal_ends_the_run_without_a_retry() {
    for (status, code) in [
        (400, exit::CONFIGURATION),
        (404, exit::CONFIGURATION),
        (410, exit::CONFIGURATION),
        (401, exit::CONFIGURATION),
        (403, exit::CONFIGURATION),
    ] {
        let refusal = ResponseTemplate::new(status).set_body_json(json!({"message": "no such list"}));
        let server = server(refusal, 1).await;
        let Err(FetchEnd::Refused(failure)) = next(&mut source(&server.uri(), &json!({}))).await else {
            panic!("{status}")
        };
        assert_eq!((failure.reason, failure.exit), (SOURCE_REFUSED, code));
        let message = failure.message;
        assert!(
            message.contains(&status.to_string()) && message.contains("(application/json: no such list)"),
            "{message}"
        );
        assert_eq!(server.received_requests().await.unwrap().len(), 1, "{status}");
    }
}

#[tokio::test]
async fn a_rate_limit_with_status_403_means_waiting() {
    for headers in [
        &[("retry-after", "1")][..],
        &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1")],
    ] {
        let limited = headers.iter().fold(ResponseTemplate::new(403), |response, (name, value)| {
            response.insert_header(*name, *value)
        });
        let server = server(limited, 1).await;
        let start = Instant::now();
        assert_eq!(next(&mut source(&server.uri(), &json!({}))).await, Ok(2), "{headers:?}");
        assert!(start.elapsed() >= Duration::from_secs(1), "{headers:?}");
    }
}

#[tokio::test]
async fn retry_after_is_honoured() {
    let server = server(ResponseTemplate::new(429).insert_header("retry-after", "1"), 1).await;
    let start = Instant::now();
    assert_eq!(next(&mut source(&server.uri(), &json!({}))).await, Ok(2));
    assert!(start.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_retry_after_beyond_the_run_delays_the_jobs_next_attempt() {
    let server = server(ResponseTemplate::new(429).insert_header("retry-after", "2"), 9).await;
    let start = Instant::now();
    let Err(FetchEnd::SourceFailed {
        error,
        attempts: 1,
        retryable,
    }) = next(&mut source(&server.uri(), &json!({"runDuration": "1s"}))).await
    else {
        panic!()
    };
    assert!(retryable && error.contains("429") && error.contains("2 s"), "{error}");
    assert!(start.elapsed() >= Duration::from_secs(2));
}

#[tokio::test]
async fn a_long_retry_after_is_left_to_the_next_run() {
    let server = server(ResponseTemplate::new(429).insert_header("retry-after", "300"), 9).await;
    let start = Instant::now();
    let Err(FetchEnd::SourceFailed {
        error,
        attempts: 1,
        retryable,
    }) = next(&mut source(&server.uri(), &json!({}))).await
    else {
        panic!()
    };
    assert!(!retryable && error.contains("429") && error.contains("300 s"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_source_that_fails_to_the_end_is_reported_with_its_last_error() {
    let server = server(ResponseTemplate::new(503), 99).await;
    let Err(FetchEnd::SourceFailed { error, attempts, .. }) = next(&mut source(&server.uri(), &json!({}))).await else {
        panic!()
    };
    assert!(error.contains("503 Service Unavailable"), "{error}");
    assert_eq!(server.received_requests().await.unwrap().len(), attempts as usize);
    assert!((2..=5).contains(&attempts), "{attempts}");
}

#[tokio::test]
async fn a_body_without_items_is_requested_twice_and_described() {
    for (body, expected) in [
        ("<html>", "not JSON"),
        (
            "{\"error\":\"Uh oh\"}",
            "no array at /results (spec.source.http.items); it is an object with the keys error",
        ),
    ] {
        let server = server(ResponseTemplate::new(200).set_body_string(body), 99).await;
        let Err(FetchEnd::Refused(failure)) = next(&mut source(&server.uri(), &json!({}))).await else {
            panic!("{body}")
        };
        assert_eq!((failure.reason, failure.exit), (RESPONSE_INVALID, exit::CONFIGURATION));
        assert!(failure.message.contains(expected), "{}", failure.message);
        assert_eq!(server.received_requests().await.unwrap().len(), 2, "{body}");
    }
    let error = failing(&server(ResponseTemplate::new(200).set_body_string(""), 99).await.uri(), json!({})).await;
    assert!(error.contains("empty"), "{error}");
    let once = server(ResponseTemplate::new(200).set_body_string("<html>"), 1).await;
    assert_eq!(next(&mut source(&once.uri(), &json!({}))).await, Ok(2));
}

#[tokio::test]
async fn a_wrong_pointer_is_not_retried() {
    let server = server(ResponseTemplate::new(200).set_body_string("{\"users\": [1]}"), 99).await;
    let Err(FetchEnd::Refused(failure)) = next(&mut source(&server.uri(), &json!({}))).await else {
        panic!()
    };
    assert!(failure.message.contains("it has arrays at /users (1 item)"), "{}", failure.message);
    assert_eq!(server.received_requests().await.unwrap().len(), 1);
}

#[tokio::test]
async fn no_content_is_a_page_without_items() {
    for more in [
        json!({}),
        json!({"format": "NDJSON"}),
        json!({"pagination": {"type": "Cursor", "parameter": "after", "cursorFrom": "/next"}}),
    ] {
        let server = server(ResponseTemplate::new(204), 1).await;
        assert_eq!(next(&mut source(&server.uri(), &more)).await, Ok(0), "{more}");
        assert_eq!(server.received_requests().await.unwrap().len(), 1, "{more}");
    }
}

#[tokio::test]
async fn a_body_that_is_cut_off_is_an_error() {
    for response in [
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"results\": []}",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nf\r\n{\"results\": []}\r\n",
    ] {
        let error = failing(&raw_server(response).await, json!({})).await;
        assert!(error.contains("cut off after 15 bytes"), "{error}");
    }
    // Without a length, only the JSON shows it.
    let error = failing(&raw_server("HTTP/1.0 200 OK\r\n\r\n{\"results\": [").await, json!({})).await;
    assert!(error.contains("ends too early"), "{error}");
}

#[tokio::test]
async fn a_body_is_limited_by_its_decompressed_size() {
    let bomb = gzip(&vec![b' '; 64 << 20]);
    assert!(bomb.len() < 1 << 20);
    let packed = |body: Vec<u8>| {
        ResponseTemplate::new(200)
            .set_body_bytes(body)
            .insert_header("content-encoding", "gzip")
    };
    for response in [packed(bomb), ResponseTemplate::new(200).set_body_bytes(vec![b' '; (1 << 20) + 1])] {
        let server = server(response, 99).await;
        let Err(FetchEnd::Refused(failure)) = next(&mut source(&server.uri(), &json!({}))).await else {
            panic!()
        };
        assert!(failure.message.contains("larger than 1048576 bytes"), "{}", failure.message);
        assert_eq!(server.received_requests().await.unwrap().len(), 1);
    }
    let small = server(packed(gzip(b"{\"results\": [1, 2, 3]}")), 1).await;
    assert_eq!(next(&mut source(&small.uri(), &json!({}))).await, Ok(3));
}

#[tokio::test]
async fn a_response_after_the_timeout_is_an_error() {
    let server = server(page().set_delay(Duration::from_secs(30)), 1).await;
    assert_eq!(next(&mut source(&server.uri(), &json!({}))).await, Ok(2));
    let error = failing(&self::server(page().set_delay(Duration::from_secs(30)), 99).await.uri(), json!({})).await;
    assert!(error.contains("did not respond within 500ms"), "{error}");
}

#[tokio::test]
async fn an_unreachable_server_is_a_failure_of_the_source() {
    let error = failing("http://127.0.0.1:1/?token=hunter2", json!({})).await;
    assert!(
        error.contains("127.0.0.1:1 cannot be reached") && error.contains("refused"),
        "{error}"
    );
    assert!(!error.contains("hunter2"));
}

struct Ours;

impl Match for Ours {
    fn matches(&self, request: &Received) -> bool {
        request
            .headers
            .get("user-agent")
            .is_some_and(|agent| agent.to_str().unwrap().starts_with("userpipeline-ingest/"))
    }
}

#[tokio::test]
async fn the_request_has_the_headers_and_parameters_of_the_spec() {
    let secrets = tempfile::tempdir().unwrap();
    std::fs::create_dir(secrets.path().join("api")).unwrap();
    std::fs::write(secrets.path().join("api/token"), "Bearer one\n").unwrap();
    let server = MockServer::start().await;
    let expect = |token: &'static str| {
        Mock::given(Ours)
            .and(query_param("a", "1"))
            .and(query_param("results", "5&6 ="))
            .and(header("x-plain", "p"))
            .and(header("authorization", token))
            .respond_with(page())
    };
    expect("Bearer one").expect(1).mount(&server).await;
    expect("Bearer two").expect(1).mount(&server).await;
    let http = serde_json::from_value(json!({
        "url": format!("{}/api/?a=1", server.uri()),
        "query": [{"name": "results", "value": "5&6 ="}],
        "headers": [{"name": "X-Plain", "value": "p"}, {"name": "Authorization", "valueFrom": {"secretKeyRef": {"name": "api", "key": "token"}}}],
        "rateLimit": {"per": "10ms"}, "pagination": {"type": "Repeat"},
    }))
    .unwrap();
    let secrets_in = Secrets::in_dir(secrets.path());
    let mut source = Source::new(&http, &secrets_in).unwrap();
    assert_eq!(next(&mut source).await, Ok(2));

    std::fs::write(secrets.path().join("api/token"), "Bearer two").unwrap();
    assert_eq!(next(&mut source).await, Ok(2));

    std::fs::write(secrets.path().join("api/token"), "hunter\u{7f}2").unwrap();
    let Err(FetchEnd::Refused(failure)) = next(&mut source).await else {
        panic!()
    };
    assert_eq!((failure.reason, failure.exit), (PIPELINE_INVALID, exit::CONFIGURATION));
    assert!(!failure.message.contains("hunter"), "{}", failure.message);

    std::fs::remove_file(secrets.path().join("api/token")).unwrap();
    let Err(FetchEnd::Refused(failure)) = next(&mut source).await else {
        panic!()
    };
    assert_eq!((failure.reason, failure.exit), ("CredentialsMissing", exit::CONFIGURATION));
    assert!(
        failure.message.contains("`api`") && failure.message.contains("spec.source.http.headers[1].valueFrom.secretKeyRef"),
        "{}",
        failure.message
    );
}

#[tokio::test]
async fn requests_keep_the_rate_limit_and_end_with_the_runs_duration() {
    let server = server(page(), 1).await;
    let mut source = source(
        &server.uri(),
        &json!({"runDuration": "1s", "rateLimit": {"requests": 2, "per": "400ms"}}),
    );
    let start = Instant::now();
    let mut pages = 0;
    let end = loop {
        match next(&mut source).await {
            Ok(_) => pages += 1,
            Err(end) => break end,
        }
    };
    assert_eq!((end, pages), (FetchEnd::TimeUp, 6));
    assert!(start.elapsed() < Duration::from_millis(1300), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_stop_does_not_wait_for_the_source() {
    let server = server(page().set_delay(Duration::from_secs(60)), 1).await;
    let mut source = source(&server.uri(), &json!({"timeout": "5m"}));
    let stop = CancellationToken::new();
    let stopper = stop.clone();
    tokio::spawn(async move {
        sleep(Duration::from_millis(100)).await;
        stopper.cancel();
    });
    let start = Instant::now();
    assert_eq!(source.next(&stop, async || Ok(0)).await.map(|_| ()), Err(FetchEnd::Interrupted));
    assert!(start.elapsed() < Duration::from_secs(5));
}

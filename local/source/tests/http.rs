//! The server as its clients observe it, through a real listener.

// Clippy does not take the functions around the tests for tests.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use randomuser_source::{Config, serve};
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// A running server, stopped when dropped.
struct Source {
    base: String,
    client: Client,
    stop: CancellationToken,
}

impl Drop for Source {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Source {
    async fn start() -> Self {
        Self::with(Config::default()).await
    }

    async fn with(config: Config) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        tokio::spawn(serve(listener, None, config, stop.clone()));
        let client = Client::builder().no_proxy().build().unwrap();
        Self { base, client, stop }
    }

    async fn get(&self, path: &str) -> Response {
        let request = self.client.get(format!("{}{path}", self.base));
        request.send().await.unwrap()
    }

    async fn json(&self, path: &str) -> Value {
        let response = self.get(path).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        response.json().await.unwrap()
    }

    async fn put_fault(&self, fault: &Value) -> StatusCode {
        let request = self.client.put(format!("{}/admin/fault", self.base));
        request.json(fault).send().await.unwrap().status()
    }

    async fn delete_fault(&self, query: &str) {
        let url = format!("{}/admin/fault{query}", self.base);
        let response = self.client.delete(url).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
    }
}

fn uuids(answer: &Value) -> Vec<&str> {
    let users = answer["results"].as_array().unwrap().iter();
    users.map(|user| user["login"]["uuid"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn users_are_served_on_every_path_of_the_api() {
    let source = Source::start().await;
    let first = source.json("/api/?results=3&seed=abc").await;
    assert_eq!(uuids(&first).len(), 3);
    assert_eq!(first["info"], json!({"seed": "abc", "results": 3, "page": 1, "version": "1.4"}));
    for path in ["/api", "/api/1.4", "/api/1.4/"] {
        let again = source.json(&format!("{path}?results=3&seed=abc")).await;
        assert_eq!(again["results"], first["results"], "{path}");
    }
    assert_eq!(source.get("/api/0.9/").await.status(), StatusCode::NOT_FOUND);
    assert_eq!(source.get("/healthz").await.text().await.unwrap(), "ok");
}

#[tokio::test]
async fn without_a_seed_the_server_chooses_one_and_shows_it() {
    let source = Source::start().await;
    let first = source.json("/api/").await;
    let second = source.json("/api/").await;
    let seed = first["info"]["seed"].as_str().unwrap();
    assert_eq!(seed.len(), 16);
    assert_ne!(first["info"]["seed"], second["info"]["seed"]);
    let again = source.json(&format!("/api/?seed={seed}")).await;
    assert_eq!(again, first);
}

#[tokio::test]
async fn each_format_has_its_content_type() {
    let source = Source::start().await;
    let table = [
        ("json", "application/json"),
        ("pretty", "application/json"),
        ("csv", "text/csv"),
        ("yaml", "text/x-yaml"),
        ("xml", "text/xml"),
    ];
    for (format, expected) in table {
        let response = source.get(&format!("/api/?format={format}")).await;
        let content_type = response.headers()["content-type"].to_str().unwrap();
        assert!(content_type.starts_with(expected), "{content_type}");
    }
}

#[tokio::test]
async fn a_request_beyond_the_limit_is_answered_429_without_retry_after() {
    let source = Source::with(Config {
        limit_users: 10,
        ..Config::default()
    })
    .await;
    source.json("/api/?results=10&seed=abc").await;

    let refused = source.get("/api/?seed=abc").await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(!refused.headers().contains_key("retry-after"));
    let body: Value = refused.json().await.unwrap();
    assert!(body["error"].as_str().unwrap().contains("10 users"));

    // The admin API is neither counted nor limited.
    let counted = source.json("/admin/requests?seed=abc").await;
    assert_eq!((&counted["limited"], &counted["users"]), (&json!(1), &json!(10)));
    source.json("/admin/users?seed=abc&results=5000").await;
}

#[tokio::test]
async fn the_next_requests_receive_an_error_status_and_are_counted() {
    // Given a fault for two requests of one seed
    let source = Source::start().await;
    let fault = json!({"kind": "status", "status": 503, "times": 2, "seed": "abc"});
    assert_eq!(source.put_fault(&fault).await, StatusCode::NO_CONTENT);

    // When that seed is requested three times, and another one once in between
    let mut statuses = Vec::new();
    for seed in ["abc", "xyz", "abc", "abc"] {
        let response = source.get(&format!("/api/?seed={seed}")).await;
        statuses.push(response.status().as_u16());
    }

    // Then two of them fail, and the counters show it
    assert_eq!(statuses, [503, 200, 503, 200]);
    let counted = source.json("/admin/requests").await;
    assert_eq!((&counted["requests"], &counted["faults"]), (&json!(4), &json!(2)));
    assert_eq!(
        counted["bySeed"]["abc"],
        json!({"requests": 3, "users": 1, "faults": 2, "faultsByKind": {"status": 2}, "limited": 0})
    );
    let listed = source.json("/admin/fault").await;
    assert_eq!(listed["faults"][0]["hits"], 2);
}

#[tokio::test]
async fn every_request_receives_a_fault_without_a_seed_until_it_is_deleted() {
    let source = Source::start().await;
    source.put_fault(&json!({"kind": "status", "status": 500})).await;
    for path in ["/api/", "/api/?seed=abc", "/api/1.4/"] {
        assert_eq!(source.get(path).await.status(), 500, "{path}");
    }
    assert_eq!(source.get("/healthz").await.status(), 200);
    source.delete_fault("").await;
    assert_eq!(source.get("/api/").await.status(), 200);
}

#[tokio::test]
async fn an_invalid_fault_is_refused() {
    let source = Source::start().await;
    let status = source.put_fault(&json!({"kind": "flood"})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let response = source.get("/api/?fault.satus=503").await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn an_outage_answers_200_with_an_error_and_no_users() {
    let source = Source::start().await;
    let body = source.json("/api/?fault.outage").await;
    assert!(body["error"].as_str().unwrap().starts_with("Uh oh, "));
    assert!(body.get("results").is_none());
    assert_eq!(source.get("/api/?fault.outage=500").await.status(), 500);
}

#[tokio::test]
async fn an_empty_answer_is_complete_but_has_no_users() {
    let source = Source::start().await;
    let body = source.json("/api/?results=10&fault.empty").await;
    assert_eq!(body["results"], json!([]));
    assert_eq!(body["info"]["version"], "1.4");
}

#[tokio::test]
async fn a_hang_outlasts_the_timeout_of_its_client() {
    let source = Source::start().await;
    let request = source.client.get(format!("{}/api/?fault.hang", source.base));
    let answer = request.timeout(Duration::from_millis(300)).send().await;
    assert!(answer.unwrap_err().is_timeout());
    // Other requests are served in the meantime.
    assert_eq!(source.get("/api/").await.status(), 200);
}

#[tokio::test]
async fn a_hang_ends_at_its_cap_or_when_the_server_stops() {
    let source = Source::with(Config {
        hang_cap: Duration::from_millis(100),
        ..Config::default()
    })
    .await;
    let answer = source.get("/api/?fault.hang=3600").await;
    assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT);

    let source = Source::start().await;
    let hanging = tokio::spawn(source.client.get(format!("{}/api/?fault.hang", source.base)).send());
    while source.json("/admin/requests").await["faults"] == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let stopping = Instant::now();
    source.stop.cancel();
    hanging.await.unwrap().unwrap();
    assert!(stopping.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_truncated_body_is_shorter_than_its_content_length() {
    let source = Source::start().await;
    let whole = source.get("/api/?seed=abc&results=100").await;
    let whole = whole.text().await.unwrap();

    let mut response = source.get("/api/?seed=abc&results=100&fault.truncate").await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.content_length(), Some(whole.len() as u64));
    let mut received = Vec::new();
    let is_cut = loop {
        match response.chunk().await {
            Ok(Some(chunk)) => received.extend_from_slice(&chunk),
            Ok(None) => break false,
            Err(_) => break true,
        }
    };
    assert!(is_cut);
    assert_eq!(received, whole.as_bytes()[..whole.len() / 2]);

    // It is not recorded as served.
    let served = source.json("/admin/served?seed=abc").await;
    assert_eq!(served["served"][0]["times"], 1);
}

#[tokio::test]
async fn a_body_that_is_not_json_comes_with_status_200() {
    let source = Source::start().await;
    let response = source.get("/api/?fault.not-json").await;
    assert_eq!(response.status(), 200);
    let body = response.text().await.unwrap();
    assert!(serde_json::from_str::<Value>(&body).is_err(), "{body}");
}

#[tokio::test]
async fn a_repeat_fault_serves_the_previous_page_again() {
    // Given that page 1 was served, and a fault for the next request
    let source = Source::start().await;
    let first = source.json("/api/?seed=abc&results=5&page=1").await;
    let fault = json!({"kind": "repeat", "times": 1, "seed": "abc"});
    source.put_fault(&fault).await;

    // When page 2 and page 3 are requested
    let second = source.json("/api/?seed=abc&results=5&page=2").await;
    let third = source.json("/api/?seed=abc&results=5&page=3").await;

    // Then page 1 is served instead of page 2, and page 3 is correct
    assert_eq!(second, first);
    assert_eq!(third["info"]["page"], 3);
    let served = source.json("/admin/served?seed=abc").await;
    let pages = served["served"].as_array().unwrap().iter();
    let counts: Vec<_> = pages.map(|page| (&page["page"], &page["times"])).collect();
    assert_eq!(counts, [(&json!(1), &json!(2)), (&json!(3), &json!(1))]);
}

#[tokio::test]
async fn the_admin_api_serves_the_same_users_again_without_counting_it() {
    // Given requests with and without a seed, one of them filtered
    let source = Source::start().await;
    let answers = [
        source.json("/api/?seed=abc&results=5&page=2").await,
        source.json("/api/?results=7&gender=female&nat=ir,ua&exc=dob,registered").await,
    ];
    let before = source.json("/admin/requests").await;

    // And a fault for every request
    source.put_fault(&json!({"kind": "hang"})).await;

    // When the queries in the lists of served pages are requested
    for (list, answer) in ["?seed=abc", ""].into_iter().zip(&answers) {
        let served = source.json(&format!("/admin/served{list}")).await;
        assert_eq!(served["dropped"], 0);
        let query = served["served"][0]["query"].as_str().unwrap();
        let again = source.json(&format!("/admin/users?{query}")).await;

        // Then the same users are served
        assert_eq!(&again, answer);
    }
    assert_eq!(source.json("/admin/requests").await, before);
}

#[tokio::test]
async fn too_many_concurrent_requests_are_answered_503() {
    let source = Source::with(Config {
        max_in_flight: 1,
        ..Config::default()
    })
    .await;
    let hanging = tokio::spawn(source.client.get(format!("{}/api/?fault.hang", source.base)).send());
    while source.json("/admin/requests").await["faults"] == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(source.get("/api/").await.status(), 503);

    // A client that disconnects frees its place.
    hanging.abort();
    let waiting = Instant::now();
    while source.get("/api/").await.status() != 200 {
        assert!(waiting.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn the_directory_ends_with_a_page_without_users() {
    let source = Source::start().await;
    let mut uuids = std::collections::BTreeSet::new();
    for page in 1..=10 {
        let answer = source.json(&format!("/directory?page={page}")).await;
        let users = answer["data"].as_array().unwrap();
        assert_eq!(users.len(), 100);
        uuids.extend(users.iter().map(|user| user["login"]["uuid"].to_string()));
    }
    assert_eq!(uuids.len(), 1000);
    assert_eq!(source.json("/directory?page=11").await["data"], json!([]));
    assert_eq!(source.json("/directory?page=3").await, source.json("/directory?page=3").await);
    assert_eq!(source.get("/directory?page=0").await.status(), 400);
}

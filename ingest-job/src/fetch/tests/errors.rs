//! Responses that an API uses in its own way, and rate limits that a success announces.

use super::*;

/// A server whose first response is `first`, and a source with one rule.
async fn ruled(first: ResponseTemplate, when: &str, then: &str) -> (MockServer, Source) {
    let server = server(first, 1).await;
    let rule = json!({"when": when, "then": then, "message": "the limit of the free plan"});
    let source = source(&server.uri(), &json!({"errors": [rule]}));
    (server, source)
}

async fn requests(server: &MockServer) -> usize {
    server.received_requests().await.unwrap().len()
}

fn note(text: &str) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(json!({"Note": text}))
}

#[tokio::test]
async fn a_rule_means_waiting_or_another_request() {
    let limited = note("limit").insert_header("retry-after", "1");
    let (server, mut source) = ruled(limited, "has(answer.Note)", "Wait").await;
    let start = Instant::now();
    assert_eq!(next(&mut source).await, Ok(2));
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(requests(&server).await, 2);

    let (server, mut source) = ruled(ResponseTemplate::new(404), "status == 404", "Retry").await;
    assert_eq!(next(&mut source).await, Ok(2));
    assert_eq!(requests(&server).await, 2);
}

#[tokio::test]
async fn a_rule_fails_the_run_at_once_with_its_message_and_the_response() {
    let (server, mut source) = ruled(note("no more"), "has(answer.Note)", "Fail").await;
    let Err(FetchEnd::Refused(failure)) = next(&mut source).await else {
        panic!("not refused")
    };
    assert_eq!((failure.reason, failure.exit), (SOURCE_REFUSED, exit::CONFIGURATION));
    let message = failure.message;
    assert!(
        message.starts_with("the limit of the free plan (") && message.contains("no more"),
        "{message}"
    );
    assert_eq!(requests(&server).await, 1);
    // A transient status, too.
    let (server, mut source) = ruled(ResponseTemplate::new(503), "status == 503", "Fail").await;
    assert!(matches!(next(&mut source).await, Err(FetchEnd::Refused(_))));
    assert_eq!(requests(&server).await, 1);
}

#[tokio::test]
async fn a_rule_ends_the_source_or_makes_a_response_ordinary() {
    let server = server(ResponseTemplate::new(500).set_body_string("past the end"), 1).await;
    let paged = json!({"pagination": {"type": "Page", "parameter": "p"}, "errors": [{"when": "status == 500", "then": "End"}]});
    let mut ended = source(&server.uri(), &paged);
    assert_eq!(next(&mut ended).await, Ok(0));
    assert_eq!(next(&mut ended).await, Err(FetchEnd::Exhausted));

    let partial = json!({"data": {"nodes": [{"a": 1}]}, "errors": [{"message": "one is hidden"}]});
    for (status, ignored) in [(200, true), (200, false), (404, true), (404, false)] {
        let response = ResponseTemplate::new(status).set_body_json(&partial);
        let server = MockServer::start().await;
        Mock::given(method("GET")).respond_with(response).mount(&server).await;
        let mut spec = json!({"items": "/data/nodes"});
        if ignored {
            spec["errors"] = json!([{"when": "has(answer.data) && size(answer.errors) > 0", "then": "Ignore"}]);
        }
        let read = next(&mut source(&server.uri(), &spec)).await;
        assert_eq!(read == Ok(1), ignored, "{status}: {read:?}");
    }
}

#[tokio::test]
async fn the_next_request_waits_until_the_source_allows_more() {
    let last = |reset: &str| {
        page()
            .insert_header("x-ratelimit-remaining", "0")
            .insert_header("x-ratelimit-reset", reset)
    };
    let limited = server(last("1"), 1).await;
    let mut source_of = source(&limited.uri(), &json!({}));
    assert_eq!(next(&mut source_of).await, Ok(2));
    let start = Instant::now();
    assert_eq!(next(&mut source_of).await, Ok(2));
    assert!(start.elapsed() >= Duration::from_millis(900), "{:?}", start.elapsed());

    // Not longer than the run lasts.
    let limited = server(last("60"), 1).await;
    let mut source_of = source(&limited.uri(), &json!({}));
    assert_eq!(next(&mut source_of).await, Ok(2));
    let end = next(&mut source_of).await;
    assert!(matches!(end, Err(FetchEnd::RateLimited { seconds: 58..=60 })), "{end:?}");
    assert_eq!(requests(&limited).await, 1);

    // A success that asks for nothing else.
    let other = server(
        page()
            .insert_header("x-ratelimit-remaining", "7")
            .insert_header("x-ratelimit-reset", "60"),
        1,
    )
    .await;
    let mut source_of = source(&other.uri(), &json!({}));
    assert_eq!((next(&mut source_of).await, next(&mut source_of).await), (Ok(2), Ok(2)));
}

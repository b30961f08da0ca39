//! Servers that send a line of JSON for each item.

use super::*;

/// A source of lines that sends `first` so many times.
async fn lines(first: &str, times: u64) -> (Source, MockServer) {
    let server = MockServer::start().await;
    for (body, times) in [(first, times), ("1\n2\n", u64::MAX)] {
        Mock::given(method("GET"))
            .respond_with(ResponseTemplate::new(200).set_body_string(body))
            .up_to_n_times(times)
            .mount(&server)
            .await;
    }
    let more = json!({"format": "NDJSON", "runDuration": "1s", "pagination": {"type": "Offset", "parameter": "offset"}});
    (source(&server.uri(), &more), server)
}

#[tokio::test]
async fn a_line_that_is_not_json_counts_in_the_next_pages_offset() {
    // Given a response of three lines, one of which is not JSON
    let (mut source, server) = lines("1\noops\n3\n", 1).await;

    // When two pages are requested, then neither fails
    assert_eq!(next(&mut source).await, Ok(3));
    assert_eq!(next(&mut source).await, Ok(2));

    // And the second starts after all three
    let requests = server.received_requests().await.unwrap();
    let queries: Vec<_> = requests.iter().map(|request| request.url.query().unwrap_or_default()).collect();
    assert_eq!(queries, ["offset=0", "offset=3"]);
}

#[tokio::test]
async fn lines_that_are_cut_off_or_without_any_json_are_retried() {
    for body in ["1\n{\"a\":", "<html>\n</html>\n"] {
        let (mut source, server) = lines(body, 1).await;
        assert_eq!(next(&mut source).await, Ok(2), "{body}");
        assert_eq!(server.received_requests().await.unwrap().len(), 2, "{body}");
    }
}

#[tokio::test]
async fn a_source_without_any_json_fails() {
    let (mut source, _server) = lines("<html>\n</html>\n", u64::MAX).await;
    let Err(FetchEnd::Refused(failure)) = next(&mut source).await else {
        panic!()
    };
    let message = failure.message;
    assert!(message.contains("line 1 of the response: the response is not JSON"), "{message}");
}

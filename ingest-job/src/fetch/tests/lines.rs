//! Servers that answer with a line of JSON for each item.

use super::*;

/// A source of lines, whose first answers are `first`.
async fn lines(first: &str, times: u64) -> (Source, MockServer) {
    let server = MockServer::start().await;
    for (answer, times) in [(first, times), ("1\n2\n", u64::MAX)] {
        Mock::given(method("GET"))
            .respond_with(ResponseTemplate::new(200).set_body_string(answer))
            .up_to_n_times(times)
            .mount(&server)
            .await;
    }
    let more = json!({"format": "NDJSON", "runDuration": "1s", "pagination": {"type": "Offset", "parameter": "offset"}});
    (source(&server.uri(), &more), server)
}

#[tokio::test]
async fn a_line_that_is_no_json_is_an_item_and_counts_in_the_next_pages_offset() {
    // Given an answer of three lines, one of which is no JSON
    let (mut source, server) = lines("1\noops\n3\n", 1).await;

    // When two pages are asked for, then neither fails
    assert_eq!(next(&mut source).await, Ok(3));
    assert_eq!(next(&mut source).await, Ok(2));

    // And the second begins behind all three
    let asked = server.received_requests().await.unwrap();
    let asked: Vec<_> = asked.iter().map(|request| request.url.query().unwrap_or_default()).collect();
    assert_eq!(asked, ["offset=0", "offset=3"]);
}

#[tokio::test]
async fn lines_that_were_cut_off_or_are_none_at_all_are_asked_for_again() {
    for answer in ["1\n{\"a\":", "<html>\n</html>\n"] {
        let (mut source, server) = lines(answer, 1).await;
        assert_eq!(next(&mut source).await, Ok(2), "{answer}");
        assert_eq!(server.received_requests().await.unwrap().len(), 2, "{answer}");
    }
}

#[tokio::test]
async fn a_source_whose_lines_are_always_none_fails() {
    let (mut source, _server) = lines("<html>\n</html>\n", u64::MAX).await;
    let Err(End::SourceFailed { error, .. }) = next(&mut source).await else {
        panic!()
    };
    assert!(error.contains("line 1 of the answer: the answer is no JSON"), "{error}");
}

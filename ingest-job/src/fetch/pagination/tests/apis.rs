//! Responses of all kinds: ends, empty pages, repetitions, mistakes and errors.

use serde_json::{Value as Json, json};

use super::{super::Position, Answer, Outcome, answer, run};

/// A run over responses in their order, with a pagination.
fn read(http: &Json, responses: &[Answer]) -> Outcome {
    let mut http_source = json!({"url": "http://a/x?size=2"});
    http_source.as_object_mut().unwrap().extend(http.as_object().unwrap().clone());
    let mut at = 0;
    run(&serde_json::from_value(http_source).unwrap(), |_, _, _| {
        at += 1;
        responses.get(at - 1).cloned()
    })
}

pub fn ok(body: &Json) -> Answer {
    answer(200, &[], &body.to_string())
}

pub fn linked(link: &str, body: &Json) -> Answer {
    answer(200, &[("link", link.to_owned())], &body.to_string())
}

/// The number of items, and the requested URLs without their base.
fn read_all(http: &Json, responses: &[Answer]) -> (usize, Vec<String>) {
    let outcome = read(http, responses);
    assert_eq!(outcome.failure, None);
    assert_eq!(outcome.requests.len(), responses.len());
    let requests = outcome
        .requests
        .iter()
        .map(|url| url.trim_start_matches("http://a/x?size=2").to_owned());
    (outcome.items.len(), requests.collect())
}

fn failure(http: &Json, responses: &[Answer]) -> (&'static str, String) {
    read(http, responses).failure.expect("a failure")
}

#[test]
fn an_empty_page_in_the_middle_ends_nothing_where_the_end_is_declared() {
    let page = |more: bool, items: Json| ok(&json!({"more": more, "total": 4, "results": items}));
    let pages = [page(true, json!([1, 2])), page(true, json!([])), page(false, json!([3, 4]))];
    for end in [json!({"endWhen": "!answer.more"}), json!({"totalFrom": "/total"})] {
        let mut pagination = json!({"type": "Page", "parameter": "page"});
        pagination.as_object_mut().unwrap().extend(end.as_object().unwrap().clone());
        assert_eq!(read_all(&json!({"pagination": pagination}), &pages).0, 4, "{end}");
    }
    // An offset needs to know by how much such a page advances it.
    let offset = |step: Json| json!({"pagination": {"type": "Offset", "parameter": "o", "endWhen": "!answer.more", "step": step}});
    let expected = vec!["&o=0".to_owned(), "&o=2".into(), "&o=4".into()];
    assert_eq!(read_all(&offset(json!(2)), &pages), (4, expected));
    let (reason, message) = failure(&offset(Json::Null), &pages);
    assert!(reason == "Incomplete" && message.contains("step"), "{message}");
}

#[test]
fn a_page_that_repeats_ends_the_run_after_one_more_request() {
    let same = || ok(&json!({"next": "a", "url": "http://a/x?size=2", "results": [1, 2]}));
    let other = || ok(&json!({"next": "a", "results": [3]}));
    for (pagination, responses, expected) in [
        (
            json!({"type": "Page", "parameter": "p"}),
            vec![same(), same()],
            "page 2 has the same items as page 1",
        ),
        // The spec declares an end that the repeated page seems to reach.
        (
            json!({"type": "Page", "parameter": "p", "endWhen": "page >= 2"}),
            vec![same(), same()],
            "same items",
        ),
        (json!({"type": "Offset", "parameter": "o"}), vec![same(), same()], "same items"),
        (
            json!({"type": "Cursor", "parameter": "c", "cursorFrom": "/next"}),
            vec![same(), other()],
            "by the same cursor",
        ),
        (json!({"type": "NextUrl", "nextUrlFrom": "/url"}), vec![same()], "by the same URL"),
    ] {
        let outcome = read(&json!({"pagination": pagination}), &responses);
        let (reason, message) = outcome.failure.unwrap();
        assert!(
            reason == "PageRepeated" && message.contains(expected),
            "{pagination}: {reason} {message}"
        );
        assert_eq!(outcome.requests.len(), responses.len(), "{pagination}");
    }
    // Nothing comes after the cursor: that is an end.
    let tail = [ok(&json!({"next": "a", "results": [1]})), ok(&json!({"next": "a", "results": []}))];
    assert_eq!(
        read_all(
            &json!({"pagination": {"type": "Cursor", "parameter": "c", "cursorFrom": "/next"}}),
            &tail
        )
        .0,
        1
    );
}

#[test]
fn a_wrong_pointer_fails_at_once_and_lists_the_arrays() {
    let outcome = read(&json!({}), &[ok(&json!({"data": {"users": [1, 2]}, "results": {}}))]);
    let (reason, message) = outcome.failure.unwrap();
    assert!(
        reason == "ResponseInvalid" && message.contains("it has arrays at /data/users (2 items)"),
        "{message}"
    );
    assert_eq!(outcome.requests.len(), 1);
    // A response without any array is requested twice.
    let (_, message) = failure(&json!({}), &[ok(&json!({"error": "busy"})), ok(&json!({"error": "busy"}))]);
    assert!(message.contains("no array at /results"), "{message}");
}

#[test]
fn an_error_with_status_200_is_no_empty_page() {
    let by_cursor = json!({"pagination": {"type": "Cursor", "parameter": "c", "cursorFrom": "/next"}});
    let by_end = json!({"pagination": {"type": "Page", "parameter": "p", "endWhen": "!has(answer.next)"}});
    for http in [by_cursor, by_end] {
        let page = || ok(&json!({"next": "a", "results": [1]}));
        let error = || ok(&json!({"error": "quota"}));
        assert_eq!(failure(&http, &[page(), error(), error()]).0, "ResponseInvalid");
    }
}

#[test]
fn a_spec_without_pagination_warns_if_the_response_has_pages() {
    for (body, expected) in [
        (
            json!({"next": "http://a/2", "results": [1]}),
            "set pagination: {type: NextUrl, nextUrlFrom: /next}",
        ),
        (json!({"info": {"count": 826}, "results": [1]}), "a total of 826 at /info/count"),
    ] {
        let outcome = read(&json!({}), &[ok(&body)]);
        assert_eq!((outcome.failure, outcome.requests.len()), (None, 1));
        assert!(
            outcome.notes[0].contains("pagination is not set") && outcome.notes[0].contains(expected),
            "{:?}",
            outcome.notes
        );
        // Who declares one page has decided.
        let declared = read(&json!({"pagination": {"type": "Single"}}), &[ok(&body)]);
        assert!(declared.notes.is_empty());
    }
    assert!(read(&json!({}), &[ok(&json!({"results": [1]}))]).notes.is_empty());
}

#[test]
fn a_missing_header_link_is_noted() {
    let link = || json!({"items": "/value", "pagination": {"type": "Link"}});
    let plain = read(&link(), &[ok(&json!({"value": [1]}))]);
    assert_eq!(plain.notes, ["the first response had no header Link, so the run has one page"]);
    let by_body = read(&link(), &[ok(&json!({"@odata.nextLink": "http://a/2", "value": [1]}))]);
    assert!(
        by_body.notes[0].contains("nextUrlFrom: \"/@odata.nextLink\""),
        "{:?}",
        by_body.notes
    );
    assert!(read(&link(), &[linked("<x>; rel=last", &json!({"value": [1]}))]).notes.is_empty());
}

#[test]
fn a_declared_total_must_be_reached() {
    let total = json!({"pagination": {"type": "NextUrl", "nextUrlFrom": "/next", "totalFrom": "/total"}});
    let (reason, message) = failure(&total, &[ok(&json!({"total": 3, "results": [1, 2]}))]);
    assert!(
        reason == "Incomplete" && message.contains("3 items") && message.contains("only 2"),
        "{message}"
    );
    // It may be text, and only on the first page.
    let pages = [
        ok(&json!({"total": "3", "next": "/y", "results": [1, 2]})),
        ok(&json!({"next": "/z", "results": [3]})),
    ];
    assert_eq!(read_all(&total, &pages).0, 3);
    // The items before the first offset count.
    let offset = json!({"pagination": {"type": "Offset", "parameter": "o", "start": 8, "totalFrom": "/total"}});
    assert_eq!(read_all(&offset, &[ok(&json!({"total": 10, "results": [9, 10]}))]).0, 2);
}

#[test]
fn an_end_that_cannot_be_evaluated_fails_the_run() {
    let http = json!({"pagination": {"type": "Page", "parameter": "p", "endWhen": "!answer.has_more"}});
    let page = || ok(&json!({"results": [1]}));
    let (reason, message) = failure(&http, &[page(), page()]);
    assert!(
        reason == "ResponseInvalid" && message.contains("endWhen: No such key: has_more"),
        "{message}"
    );
}

#[test]
fn the_number_of_the_page_counts_from_one() {
    for (pagination, pages) in [
        (json!({"type": "Page", "parameter": "p", "start": 0}), 3),
        (json!({"type": "Page", "parameter": "p"}), 3),
        (json!({"type": "Page", "parameter": "p", "start": 2}), 2),
        (json!({"type": "Offset", "parameter": "p"}), 3),
    ] {
        let mut pagination = pagination;
        pagination["endWhen"] = json!("page >= answer.pages && headers['x-end'] == 'yes'");
        let http = serde_json::from_value(json!({"url": "http://a/", "pagination": pagination})).unwrap();
        let mut id = 0;
        let outcome = run(&http, |position, _, _| {
            assert!(matches!(position, Position::Number(_)));
            id += 1;
            Some(answer(
                200,
                &[("X-End", "yes".to_owned())],
                &json!({"pages": 3, "results": [id]}).to_string(),
            ))
        });
        assert_eq!((outcome.failure, outcome.requests.len()), (None, pages), "{pagination}");
    }
}

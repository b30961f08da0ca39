//! The public APIs of `examples/apis`, with their known ends.

use std::{fs, path::Path};

use serde_json::{Value as Json, json};
use userpipeline_api::HttpSource;

use super::{
    Answer, answer,
    apis::{linked, ok},
    run,
};

/// The source of a pipeline in `examples/apis`.
fn example(name: &str) -> HttpSource {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../examples/apis/{name}.yaml"));
    let manifest: Json = serde_yaml::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    serde_json::from_value(manifest["spec"]["source"]["http"].clone()).unwrap()
}

/// Reads an example from responses, all of them. Returns the number of items, and the value of this parameter in each request.
fn read_example(name: &str, parameter: &str, responses: &[Answer]) -> (usize, Vec<String>) {
    let http = example(name);
    let mut at = 0;
    let outcome = run(&http, |_, _, _| {
        at += 1;
        responses.get(at - 1).cloned()
    });
    assert_eq!(outcome.failure, None, "{name}");
    assert_eq!(outcome.requests.len(), responses.len(), "{name}");
    let value = |url: &String| {
        let url: reqwest::Url = url.parse().unwrap();
        let found = url.query_pairs().find(|(name, _)| name == parameter);
        found.map_or_else(String::new, |(_, value)| value.into_owned())
    };
    (outcome.items.len(), outcome.requests.iter().map(value).collect())
}

/// An example, a parameter of its requests, its responses, the number of items, and the values of the parameter.
type Case = (&'static str, &'static str, Vec<Answer>, usize, &'static [&'static str]);

fn assert_read(cases: &[Case]) {
    for (name, parameter, responses, items, expected) in cases {
        let expected = expected.iter().map(ToString::to_string).collect();
        assert_eq!(read_example(name, parameter, responses), (*items, expected), "{name}");
    }
}

#[test]
fn a_status_or_a_number_of_pages_is_the_end() {
    assert_read(&[
        (
            "rickandmorty-characters",
            "page",
            vec![
                ok(&json!({"info": {"next": "https://rickandmortyapi.com/api/character?page=2", "count": 3}, "results": [1, 2]})),
                ok(&json!({"info": {"next": null, "count": 3}, "results": [3]})),
            ],
            3,
            &["", "2"],
        ),
        (
            "rickandmorty-characters",
            "page",
            vec![
                ok(&json!({"info": {"next": "https://rickandmortyapi.com/api/character?page=2"}, "results": [1, 2]})),
                answer(404, &[], "{\"error\": \"There is nothing here\"}"),
            ],
            2,
            &["", "2"],
        ),
        (
            "worldbank-population",
            "page",
            vec![ok(&json!([{"pages": 2}, [1, 2]])), ok(&json!([{"pages": 2}, null]))],
            2,
            &["1", "2"],
        ),
        (
            "wordpress-posts",
            "page",
            vec![
                ok(&json!([1, 2])),
                ok(&json!([3])),
                answer(400, &[], "{\"code\": \"rest_post_invalid_page_number\"}"),
            ],
            3,
            &["1", "2", "3"],
        ),
    ]);
}

#[test]
fn an_offset_or_the_last_item_leads_to_the_next_page() {
    assert_read(&[
        (
            "gbif-species",
            "offset",
            vec![
                ok(&json!({"endOfRecords": false, "results": [1, 2]})),
                ok(&json!({"endOfRecords": true, "results": [3]})),
            ],
            3,
            &["0", "2"],
        ),
        (
            "gbif-species",
            "offset",
            vec![
                ok(&json!({"endOfRecords": false, "results": [1]})),
                answer(400, &[], "offset too large"),
            ],
            1,
            &["0", "1"],
        ),
        (
            "stripe-charges",
            "starting_after",
            vec![
                ok(&json!({"has_more": true, "data": [{"id": "a"}, {"id": "b"}]})),
                ok(&json!({"has_more": false, "data": [{"id": "c"}]})),
            ],
            3,
            &["", "b"],
        ),
    ]);
}

#[test]
fn a_url_or_a_token_leads_to_the_next_page() {
    let full: Vec<usize> = (0..250).collect();
    let fewer: Vec<usize> = (250..260).collect();
    assert_read(&[
        (
            "github-issues",
            "page",
            vec![
                linked(
                    r#"<https://api.github.com/x?page=2>; rel="next", <https://api.github.com/x?page=2>; rel="last""#,
                    &json!([1, 2]),
                ),
                linked(r#"<https://api.github.com/x?page=1>; rel="prev""#, &json!([3])),
            ],
            3,
            &["", "2"],
        ),
        (
            "microsoft-users",
            "$skiptoken",
            vec![
                ok(&json!({"@odata.nextLink": "https://graph.microsoft.com/v1.0/users?$skiptoken=q", "value": [1, 2]})),
                ok(&json!({"value": [3]})),
            ],
            3,
            &["", "q"],
        ),
        // A page may have no items, and not even the list, next to a token.
        (
            "google-events",
            "pageToken",
            vec![
                ok(&json!({"kind": "list", "nextPageToken": "a"})),
                ok(&json!({"nextPageToken": "b", "items": [1]})),
                ok(&json!({"nextPageToken": "c", "items": null})),
                ok(&json!({"items": [2]})),
            ],
            2,
            &["", "a", "b", "c"],
        ),
        (
            "coingecko-markets",
            "page",
            vec![ok(&json!(full)), ok(&json!(fewer))],
            260,
            &["1", "2"],
        ),
        (
            "usgs-earthquakes",
            "page",
            vec![ok(&json!({"metadata": {"count": 1}, "features": [1]}))],
            1,
            &[""],
        ),
    ]);
}

#[test]
fn a_graphql_api_is_read_by_a_cursor_in_its_variables() {
    let http = example("graphql-repositories");
    let page = |id: usize, more: bool| json!({"nodes": [id], "pageInfo": {"endCursor": format!("c{id}"), "hasNextPage": more}});
    let mut bodies = Vec::new();
    let outcome = run(&http, |_, _, body| {
        bodies.push(serde_json::from_str::<Json>(body).unwrap()["variables"]["after"].clone());
        let id = bodies.len();
        Some(ok(&json!({"data": {"organization": {"repositories": page(id, id < 3)}}})))
    });
    assert_eq!((outcome.failure, outcome.items), (None, vec![json!(1), json!(2), json!(3)]));
    assert_eq!(bodies, [json!(null), json!("c1"), json!("c2")]);

    // Errors fail the run, although the response has data.
    let failed = run(&http, |_, _, _| {
        Some(ok(
            &json!({"errors": [{"message": "rate limited"}], "data": {"organization": {"repositories": page(1, false)}}}),
        ))
    });
    let (reason, message) = failed.failure.unwrap();
    assert!(
        reason == "ResponseInvalid" && message.contains("the source reports: rate limited"),
        "{message}"
    );
}

//! The pages of servers whose items are known, read to the last one. A run that misses an item must not succeed.

mod apis;
mod examples;
mod model;

use proptest::prelude::*;
use reqwest::{StatusCode, header::HeaderMap};
use serde_json::Value as Json;
use userpipeline_api::HttpSource;

use self::model::{End, Model, Sabotage, Style};
use super::{Answer, Meaning, Next, PageError, Pager, Placement, Position};
use crate::{page::Item, raw_item::Body};

/// More requests than any run of these tests needs.
const MAX_REQUESTS: usize = 400;

/// What a run read.
#[derive(Debug)]
struct Outcome {
    items: Vec<Json>,
    /// The URLs that were requested.
    requests: Vec<String>,
    notes: Vec<String>,
    /// The reason and message of a failure.
    failure: Option<(&'static str, String)>,
}

/// Reads the pages of a server, as a run does: what is cut off is requested again, what is wrong once more. A server without an answer
/// fails the run.
fn run(http: &HttpSource, mut respond: impl FnMut(&Position, &str, &str) -> Option<Answer>) -> Outcome {
    let mut pager = Pager::new(http).unwrap();
    let placement = Placement::of(&http.paging());
    let base = http.url.as_deref().unwrap().parse().unwrap();
    let mut outcome = Outcome {
        items: Vec::new(),
        requests: Vec::new(),
        notes: Vec::new(),
        failure: None,
    };
    let mut position = pager.first();
    let mut is_confirmed = false;
    while outcome.requests.len() < MAX_REQUESTS {
        let url = placement.url(&base, &position);
        let body = placement.body(http.body.as_deref().unwrap_or_default(), &position).unwrap();
        outcome.requests.push(url.to_string());
        let answer = respond(&position, url.as_str(), &body).map(|answer| Answer { url, ..answer });
        let Some(answer) = answer.filter(|answer| answer.status.is_success() || pager.ends_on(answer.status)) else {
            outcome.failure = Some(("SourceFailed", String::new()));
            return outcome;
        };
        match pager.read(&position, &answer) {
            Ok(page) => {
                is_confirmed = false;
                outcome.items.extend(page.items.iter().map(json));
                outcome.notes.extend(page.note.map(|note| note.text));
                match page.next {
                    Next::At(next) => position = next,
                    Next::End => return outcome,
                }
            }
            Err(PageError::CutOff(_)) => {}
            Err(PageError::Wrong(_)) if !is_confirmed => is_confirmed = true,
            Err(PageError::Wrong(failure) | PageError::Final(failure)) => {
                outcome.failure = Some((failure.reason, failure.message));
                return outcome;
            }
        }
    }
    panic!("the run does not end: {:?}", &outcome.requests[..5]);
}

fn json(item: &Item) -> Json {
    match item {
        Item::Json(raw) => serde_json::from_str(raw.get()).unwrap(),
        Item::InvalidLine(line) => panic!("{}", line.escape_ascii()),
    }
}

fn answer(status: u16, headers: &[(&str, String)], body: &str) -> Answer {
    let header = |(name, value): &(&str, String)| (name.parse().unwrap(), value.parse().unwrap());
    Answer {
        status: StatusCode::from_u16(status).unwrap(),
        headers: headers.iter().map(header).collect::<HeaderMap>(),
        url: "http://a/".parse().unwrap(),
        body: Body::new(body.as_bytes().to_vec()),
        meaning: Meaning::Page,
    }
}

/// Servers that fail and deceive.
fn model() -> impl Strategy<Value = Model> {
    let sabotage = prop::sample::select(Sabotage::ALL.to_vec());
    model_with(sabotage, prop::collection::vec(0_u8..6, 0..12))
}

fn model_with(sabotage: impl Strategy<Value = Sabotage>, failures: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Model> {
    let style = prop::sample::select(Style::ALL.to_vec());
    let end = prop::sample::select(End::ALL.to_vec());
    let shape = (0_usize..30, 1_usize..6, prop::collection::vec(0_usize..4, 0..8), 0_usize..5);
    (style, end, sabotage, shape, failures).prop_map(|(style, end, sabotage, (items, size, holes, at), failures)| {
        Model::new(style, end, sabotage, items, size, &holes, at, failures)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn a_successful_run_has_every_item_once(mut model in model()) {
        let expected = model.items();
        let is_honest = model.is_honest();
        let http = model.source();
        let outcome = run(&http, |_, url, _| model.respond(url));
        match outcome.failure {
            None => prop_assert_eq!(outcome.items, expected, "{:?}", outcome.requests),
            Some(failure) => prop_assert!(!is_honest, "{:?} {:?}", failure, outcome.requests),
        }
    }

    #[test]
    fn an_honest_server_gets_at_most_one_unnecessary_request(mut model in model_with(Just(Sabotage::None), Just(Vec::new()))) {
        let necessary = model.necessary_requests();
        let http = model.source();
        let outcome = run(&http, |_, url, _| model.respond(url));
        prop_assert!(outcome.requests.len() <= necessary + 1, "{:?}", outcome.requests);
    }
}

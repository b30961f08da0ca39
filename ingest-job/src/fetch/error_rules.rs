//! `errors`: what responses mean that an API uses in its own way. Pure.

use serde_json::{Value as Json, json};
use userpipeline_api::{ErrorAction, HttpSource};
use userpipeline_record::{Expression, Reads, parts};

use super::pagination::{Answer, headers_json};

const FIELD: &str = "spec.source.http.errors";

/// The rules of a source, in their order.
#[derive(Debug, Default)]
pub struct ErrorRules(Vec<Rule>);

#[derive(Debug)]
struct Rule {
    when: Expression,
    then: ErrorAction,
    message: Option<String>,
}

/// What a rule says about a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict<'a> {
    pub then: ErrorAction,
    pub message: Option<&'a str>,
}

impl ErrorRules {
    /// The error names the field.
    pub fn of(http: &HttpSource) -> Result<Self, String> {
        let rules = http.errors.iter().enumerate().map(|(i, rule)| {
            let when = Expression::compile_for_response(&rule.when);
            Ok(Rule {
                when: when.map_err(|problem| format!("{FIELD}[{i}].when: {problem}"))?,
                then: rule.then,
                message: rule.message.clone(),
            })
        });
        rules.collect::<Result<_, String>>().map(Self)
    }

    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the first rule that is true says.
    pub fn verdict(&self, answer: &Answer) -> Option<Verdict<'_>> {
        let rule = self.0.iter().find(|rule| is_true(&rule.when, answer))?;
        Some(Verdict {
            then: rule.then,
            message: rule.message.as_deref(),
        })
    }
}

/// Only what the expression reads is parsed: a page may be large.
fn is_true(when: &Expression, answer: &Answer) -> bool {
    let body = match when.reads("answer") {
        Reads::Nothing => Json::Null,
        reads => parts(&answer.body, &reads).unwrap_or_default(),
    };
    let headers = match when.reads("headers") {
        Reads::Nothing => Json::Null,
        _ => headers_json(&answer.headers),
    };
    when.evaluate_over(&[&json!(answer.status.as_u16()), &headers, &body]) == Ok(Json::Bool(true))
}

#[cfg(test)]
mod tests {
    use reqwest::{StatusCode, header::HeaderMap};

    use super::*;
    use crate::fetch::pagination::Meaning;

    fn rules(rules: &Json) -> Result<ErrorRules, String> {
        let http = json!({"url": "http://a/", "errors": rules});
        ErrorRules::of(&serde_json::from_value(http).unwrap())
    }

    fn answer(status: u16, body: &str) -> Answer {
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::from_iter([("x-quota".parse().unwrap(), "0".parse().unwrap())]),
            url: "http://a/".parse().unwrap(),
            body: std::sync::Arc::new(body.into()),
            meaning: Meaning::Page,
        }
    }

    #[test]
    fn the_first_rule_that_is_true_applies_and_one_without_a_value_is_not_true() {
        let rules = rules(&json!([
            {"when": "answer.Note.contains('limit')", "then": "Wait", "message": "the daily limit"},
            {"when": "status == 404", "then": "End"},
            {"when": "headers['x-quota'] == '0' && status >= 400", "then": "Retry"},
            {"when": "answer.code == 7", "then": "Fail"},
            {"when": "status", "then": "Ignore"},
        ]))
        .unwrap();
        for (status, body, expected) in [
            (
                200,
                r#"{"Note": "our limit is 5"}"#,
                Some((ErrorAction::Wait, Some("the daily limit"))),
            ),
            (200, r#"{"Note": "hello", "results": []}"#, None),
            (200, r#"{"Note": 7}"#, None),
            (404, "<html>", Some((ErrorAction::End, None))),
            (418, "", Some((ErrorAction::Retry, None))),
            (200, r#"{"code": 7.0}"#, Some((ErrorAction::Fail, None))),
            (200, "[1]", None),
            (200, "limit", None),
        ] {
            let found = rules.verdict(&answer(status, body));
            assert_eq!(found.map(|found| (found.then, found.message)), expected, "{status} {body}");
        }
    }

    #[test]
    fn an_expression_over_other_variables_is_refused_with_its_field() {
        let error = rules(&json!([{"when": "status == 1", "then": "End"}, {"when": "items", "then": "End"}])).unwrap_err();
        assert!(
            error.starts_with("spec.source.http.errors[1].when: ") && error.contains("`status`"),
            "{error}"
        );
    }
}

//! The placeholders of the source's spec, replaced by a run's values.

use std::fmt::Write as _;

use userpipeline_api::{
    HttpSource,
    placeholder::{Template, Values},
};

use crate::outcome::{Failure, PIPELINE_INVALID};

/// Replaces the placeholders in url, query, headers and body.
pub fn fill_placeholders(http: &HttpSource, values: &Values) -> Result<HttpSource, Failure> {
    let fill = |field: &str, text: &mut String, encode: fn(&str) -> String| {
        let filled = Template::read(text).and_then(|template| template.render(values, encode));
        *text = filled.map_err(|e| Failure::configuration(PIPELINE_INVALID, format!("spec.source.http.{field}: {e}")))?;
        Ok::<(), Failure>(())
    };
    let mut http = http.clone();
    if let Some(url) = &mut http.url {
        fill("url", url, percent_encoded)?;
    }
    for (i, parameter) in http.query.iter_mut().enumerate() {
        // The client percent-encodes it.
        fill(&format!("query[{i}].value"), &mut parameter.value, str::to_owned)?;
    }
    if let Some(body) = &mut http.body {
        fill("body", body, json_escaped)?;
    }
    for (i, header) in http.headers.iter_mut().enumerate() {
        if let Some(value) = &mut header.value {
            fill(&format!("headers[{i}].value"), value, str::to_owned)?;
        }
    }
    Ok(http)
}

/// As between the quotes of a JSON string.
fn json_escaped(value: &str) -> String {
    let quoted = serde_json::Value::from(value).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// Encodes all but RFC 3986's unreserved characters, so that a value cannot leave its segment of the path or its parameter.
fn percent_encoded(value: &str) -> String {
    value.bytes().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            // Writing to a String does not fail.
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use userpipeline_api::{DataInterval, RunKind};

    use super::*;

    fn values(arguments: &[(&str, &str)]) -> Values {
        Values {
            run_id: "r".into(),
            kind: RunKind::Manual,
            interval: Some(DataInterval {
                start: "2024-03-01T00:00:00Z".parse().unwrap(),
                end: "2024-03-02T00:00:00Z".parse().unwrap(),
            }),
            zone: jiff::tz::TimeZone::UTC,
            arguments: arguments.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect(),
            cursor: None,
        }
    }

    fn source() -> HttpSource {
        serde_json::from_value(json!({
            "url": "http://a/{{arguments.what}}/{{interval.start.date}}?until={{interval.end}}",
            "query": [{"name": "region", "value": "{{arguments.what}}"}],
            "headers": [{"name": "X-Run", "value": "{{run.kind}} {{run.id}}"}]
        }))
        .unwrap()
    }

    #[test]
    fn a_value_cannot_leave_its_place_in_the_url() {
        let http = fill_placeholders(&source(), &values(&[("what", "a/../b?c&d")])).unwrap();
        assert_eq!(
            http.url.as_deref(),
            Some("http://a/a%2F..%2Fb%3Fc%26d/2024-03-01?until=2024-03-02T00%3A00%3A00Z")
        );
        assert_eq!(http.query[0].value, "a/../b?c&d");
        assert_eq!(http.headers[0].value.as_deref(), Some("Manual r"));
    }

    #[test]
    fn every_placeholder_is_replaced_in_every_field() {
        let values = Values {
            cursor: Some("a/\"b\" c".into()),
            ..values(&[("what", "d&\\e")])
        };
        // The value in headers and query, in the URL, and in a JSON string.
        for (placeholder, plain, in_url, in_body) in [
            (
                "interval.start",
                "2024-03-01T00:00:00Z",
                "2024-03-01T00%3A00%3A00Z",
                "2024-03-01T00:00:00Z",
            ),
            (
                "interval.end",
                "2024-03-02T00:00:00Z",
                "2024-03-02T00%3A00%3A00Z",
                "2024-03-02T00:00:00Z",
            ),
            ("interval.start.date", "2024-03-01", "2024-03-01", "2024-03-01"),
            ("interval.end.date", "2024-03-02", "2024-03-02", "2024-03-02"),
            ("interval.start.epochSeconds", "1709251200", "1709251200", "1709251200"),
            ("interval.end.epochSeconds", "1709337600", "1709337600", "1709337600"),
            ("interval.start.epochMillis", "1709251200000", "1709251200000", "1709251200000"),
            ("interval.end.epochMillis", "1709337600000", "1709337600000", "1709337600000"),
            ("run.id", "r", "r", "r"),
            ("run.kind", "Manual", "Manual", "Manual"),
            ("arguments.what", "d&\\e", "d%26%5Ce", "d&\\\\e"),
            ("cursor", "a/\"b\" c", "a%2F%22b%22%20c", "a/\\\"b\\\" c"),
        ] {
            let text = format!("{{{{{placeholder}}}}}");
            let http = serde_json::from_value(json!({
                "url": format!("http://a/{text}?at={text}"), "method": "POST", "body": format!("{{\"at\": \"{text}\"}}"),
                "query": [{"name": "a", "value": "-"}, {"name": "at", "value": format!("<{text}>")}],
                "headers": [{"name": "X-A", "value": "-"}, {"name": "X-At", "value": format!("<{text}>")}],
            }));

            let http = fill_placeholders(&http.unwrap(), &values).unwrap();

            assert_eq!(http.url, Some(format!("http://a/{in_url}?at={in_url}")), "{placeholder}");
            assert_eq!(http.query[1].value, format!("<{plain}>"), "{placeholder}");
            assert_eq!(http.headers[1].value, Some(format!("<{plain}>")), "{placeholder}");
            assert_eq!(http.body, Some(format!("{{\"at\": \"{in_body}\"}}")), "{placeholder}");
        }
    }

    #[test]
    fn a_missing_value_is_named_with_its_field() {
        let failure = fill_placeholders(&source(), &values(&[])).unwrap_err();
        assert!(
            failure.message.contains("spec.source.http.url") && failure.message.contains("arguments.what"),
            "{failure:?}"
        );
        assert_eq!(failure.exit, userpipeline_api::report::exit::CONFIGURATION);
    }
}

//! Placeholders (`{{…}}`) of the source that a run could not fill in.

use serde_json::Value;
use userpipeline_api::{HttpSource, RunNow, Schedule, UserPipelineSpec, placeholder::Template};

/// Unknown placeholders, and arguments without a value. `is_below`: the url is a path below that of a connection.
pub(super) fn placeholder_problems(
    http: &HttpSource,
    is_below: bool,
    schedule: &Schedule,
    run_now: Option<&RunNow>,
) -> Vec<(String, String)> {
    let arguments = &schedule.arguments;
    let url = http.url.as_deref().unwrap_or_default();
    let of_url = if is_below {
        "spec.source.http.path"
    } else {
        "spec.source.http.url"
    };
    let mut texts = vec![(of_url.to_owned(), url)];
    texts.extend(other_texts(http));
    let mut problems = Vec::new();
    let mut has_cursor = false;
    for (field, text) in texts {
        match Template::read(text) {
            Err(problem) => problems.push((field, problem)),
            Ok(template) => {
                if template.has_cursor() && http.cursor.is_none() {
                    let problem = "`{{cursor}}` needs spec.source.http.cursor, which defines its value";
                    problems.push((field.clone(), problem.to_owned()));
                }
                has_cursor |= template.has_cursor();
                problems.extend(template.arguments().filter(|name| !arguments.contains_key(*name)).map(|name| {
                    (
                        field.clone(),
                        format!("`{{{{arguments.{name}}}}}` needs a value in spec.schedule.arguments"),
                    )
                }));
            }
        }
    }
    if http.cursor.is_some() && !has_cursor {
        problems.push((
            "spec.source.http.cursor".to_owned(),
            "is unused: no url, query, header or body contains `{{cursor}}`".to_owned(),
        ));
    }
    // Credentials are sent to the host, so it must be fixed.
    let host = url.split_once("://").map_or("", |(_, rest)| rest);
    if host.split(['/', '?', '#']).next().unwrap_or_default().contains("{{") {
        problems.push((of_url.to_owned(), "a placeholder cannot be part of the host".to_owned()));
    }
    let unknown = run_now
        .iter()
        .flat_map(|run| run.arguments.keys())
        .filter(|name| !arguments.contains_key(*name));
    problems.extend(unknown.map(|name| {
        (
            format!("spec.runNow.arguments.{name}"),
            "is not among spec.schedule.arguments, so it would be unused".to_owned(),
        )
    }));
    problems
}

/// What may have placeholders besides the url, by field.
fn other_texts(http: &HttpSource) -> impl Iterator<Item = (String, &str)> {
    let query = http.query.iter().enumerate();
    let query = query.map(|(i, query)| (format!("spec.source.http.query[{i}].value"), query.value.as_str()));
    let headers = http.headers.iter().enumerate();
    let headers = headers.filter_map(|(i, header)| Some((format!("spec.source.http.headers[{i}].value"), header.value.as_deref()?)));
    let body = http.body.as_deref().map(|body| ("spec.source.http.body".to_owned(), body));
    query.chain(headers).chain(body)
}

/// What names of placeholders begin with.
const NAMES: [&str; 4] = ["interval.", "run.", "arguments.", "cursor}}"];

/// Placeholders outside of the fields in which they are replaced: their text would become data. Texts for readers may have them.
pub(super) fn misplaced_placeholders(spec: &UserPipelineSpec) -> Vec<(String, String)> {
    let Ok(spec) = serde_json::to_value(spec) else { return Vec::new() };
    let mut found = Vec::new();
    for part in ["schedule", "runNow", "source", "record", "landing", "kafka", "sinks"] {
        find_misplaced(&spec[part], &format!("spec.{part}"), &mut found);
    }
    found
}

fn find_misplaced(value: &Value, field: &str, found: &mut Vec<(String, String)>) {
    match value {
        Value::String(text) if !is_replaced(field) && !is_named(field, "doc") => {
            found.extend(placeholder_in(text).map(|placeholder| {
                let problem = format!("`{placeholder}` is not replaced here: placeholders are allowed in url, path, query, headers and body of spec.source.http");
                (field.to_owned(), problem)
            }));
        }
        Value::Array(elements) => {
            for (i, element) in elements.iter().enumerate() {
                find_misplaced(element, &format!("{field}[{i}]"), found);
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                find_misplaced(member, &format!("{field}.{name}"), found);
            }
        }
        _ => {}
    }
}

/// Fields that a run fills in.
fn is_replaced(field: &str) -> bool {
    let field = field.strip_prefix("spec.source.http.").unwrap_or_default();
    matches!(field, "url" | "path" | "body") || ((field.starts_with("query[") || field.starts_with("headers[")) && is_named(field, "value"))
}

fn is_named(field: &str, name: &str) -> bool {
    field.rsplit('.').next() == Some(name)
}

fn placeholder_in(text: &str) -> Option<String> {
    text.match_indices("{{").find_map(|(at, _)| {
        let inside = text[at + 2..].trim_start();
        let is_known = NAMES.iter().any(|name| inside.replace(" }}", "}}").starts_with(name));
        let end = text[at..].find("}}").map_or(text.len(), |end| at + end + 2);
        is_known.then(|| text[at..end].to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::example;

    fn problem(change: impl FnOnce(&mut UserPipelineSpec)) -> String {
        let mut pipeline = example::pipeline();
        change(&mut pipeline.spec);
        example::validate(&pipeline).expect_err("invalid").to_string()
    }

    fn schedule(spec: &mut UserPipelineSpec) -> &mut Schedule {
        spec.schedule.as_mut().unwrap()
    }

    fn http(spec: &mut UserPipelineSpec) -> &mut HttpSource {
        spec.source.http.as_mut().unwrap()
    }

    #[test]
    fn a_placeholder_is_invalid_where_it_is_not_replaced() {
        let record = |part: &str, value: &str| {
            let mut record = serde_json::json!({"key": ["id"], "fields": [
                {"name": "id", "type": "string", "from": "/id"}, {"name": "city", "type": "string", "doc": "of {{arguments.city}}"}
            ]});
            record["fields"][1][part] = value.into();
            Some(serde_json::from_value(record).unwrap())
        };
        for (part, value) in [
            ("expr", "'{{arguments.city}}'"),
            ("default", "{{ run.id }}"),
            ("from", "/{{interval.start}}"),
        ] {
            let error = problem(|spec| {
                spec.record = record("from", "/city");
                spec.record = record(part, value);
            });
            assert!(
                error.contains(&format!("spec.record.fields[1].{part}: ")) && error.contains("is not replaced"),
                "{error}"
            );
        }
        let error = problem(|spec| schedule(spec).arguments = [("a".to_owned(), "{{interval.end}}".to_owned())].into());
        assert!(error.contains("spec.schedule.arguments.a: "), "{error}");

        let mut pipeline = example::pipeline();
        pipeline.spec.description = Some("fetches {{arguments.city}}".to_owned());
        pipeline.spec.record = record("expr", "'{{mustache}}'");
        http(&mut pipeline.spec).url = Some("http://source/{{run.id}}".to_owned());
        example::validate(&pipeline).unwrap();
    }
}

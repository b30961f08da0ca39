//! Placeholders (`{{…}}`) of the source that a run could not fill in.

use userpipeline_api::{HttpSource, RunNow, Schedule, placeholder::Template};

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

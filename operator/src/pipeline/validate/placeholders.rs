//! `{{…}}` in the source: what a run could not put in its place.

use userpipeline_api::{HttpSource, RunNow, Schedule, placeholder::Template};

/// Placeholders that are not known, and arguments that have no value.
pub(super) fn placeholder_problems(http: &HttpSource, schedule: &Schedule, run_now: Option<&RunNow>) -> Vec<(String, String)> {
    let arguments = &schedule.arguments;
    let mut texts = vec![("spec.source.http.url".to_owned(), http.url.as_str())];
    texts.extend(
        http.query
            .iter()
            .enumerate()
            .map(|(i, query)| (format!("spec.source.http.query[{i}].value"), query.value.as_str())),
    );
    texts.extend(
        http.headers
            .iter()
            .enumerate()
            .filter_map(|(i, header)| Some((format!("spec.source.http.headers[{i}].value"), header.value.as_deref()?))),
    );
    texts.extend(http.body.as_deref().map(|body| ("spec.source.http.body".to_owned(), body)));
    let mut problems = Vec::new();
    let mut has_cursor = false;
    for (field, text) in texts {
        match Template::read(text) {
            Err(problem) => problems.push((field, problem)),
            Ok(template) => {
                if template.has_cursor() && http.cursor.is_none() {
                    let problem = "`{{cursor}}` needs spec.source.http.cursor, which says where it comes from";
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
            "no request has `{{cursor}}` in its url, query, headers or body, so nothing would use it".to_owned(),
        ));
    }
    // The host is whom credentials are for.
    let host = http.url.split_once("://").map_or("", |(_, rest)| rest);
    if host.split(['/', '?', '#']).next().unwrap_or_default().contains("{{") {
        problems.push((
            "spec.source.http.url".to_owned(),
            "a placeholder cannot be part of the host".to_owned(),
        ));
    }
    let unknown = run_now
        .iter()
        .flat_map(|run| run.arguments.keys())
        .filter(|name| !arguments.contains_key(*name));
    problems.extend(unknown.map(|name| {
        (
            format!("spec.runNow.arguments.{name}"),
            "is not among spec.schedule.arguments, so nothing would use it".to_owned(),
        )
    }));
    problems
}

//! Renders an answer as JSON, CSV, YAML or XML.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::{query::Format, user::User};

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Answer {
    pub(crate) results: Vec<User>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) info: Option<Info>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Info {
    pub(crate) seed: String,
    pub(crate) results: u32,
    pub(crate) page: u32,
    pub(crate) version: &'static str,
}

pub(crate) fn content_type(format: Format) -> &'static str {
    match format {
        Format::Json | Format::Pretty => "application/json; charset=utf-8",
        Format::Csv => "text/csv; charset=utf-8",
        Format::Yaml => "text/x-yaml; charset=utf-8",
        Format::Xml => "text/xml; charset=utf-8",
    }
}

/// CSV has the users only, without the info.
pub(crate) fn render(answer: &Answer, format: Format) -> anyhow::Result<String> {
    Ok(match format {
        Format::Json => serde_json::to_string(answer)?,
        Format::Pretty => serde_json::to_string_pretty(answer)?,
        Format::Yaml => serde_yaml::to_string(answer)?,
        Format::Csv => csv(&serde_json::to_value(&answer.results)?),
        Format::Xml => xml(&serde_json::to_value(answer)?),
    })
}

/// One line per user; the header of a nested field is its path, `name.first`.
fn csv(users: &Value) -> String {
    let rows: Vec<Vec<(String, String)>> = users
        .as_array()
        .into_iter()
        .flatten()
        .map(|user| {
            let mut row = Vec::new();
            flatten("", user, &mut row);
            row
        })
        .collect();
    let mut text = String::new();
    if let Some(first) = rows.first() {
        line(first.iter().map(|(path, _)| path.as_str()), &mut text);
    }
    for row in &rows {
        line(row.iter().map(|(_, value)| value.as_str()), &mut text);
    }
    text
}

fn flatten(path: &str, value: &Value, row: &mut Vec<(String, String)>) {
    if let Value::Object(fields) = value {
        for (name, value) in fields {
            let dot = if path.is_empty() { "" } else { "." };
            flatten(&format!("{path}{dot}{name}"), value, row);
        }
    } else {
        row.push((path.to_owned(), plain(value)));
    }
}

fn line<'a>(cells: impl Iterator<Item = &'a str>, text: &mut String) {
    for (position, cell) in cells.enumerate() {
        if position > 0 {
            text.push(',');
        }
        if cell.contains([',', '"', '\n', '\r']) {
            text.push('"');
            text.push_str(&cell.replace('"', "\"\""));
            text.push('"');
        } else {
            text.push_str(cell);
        }
    }
    text.push('\n');
}

/// A document `user` with one element `results` per user.
fn xml(answer: &Value) -> String {
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    element("user", answer, 0, &mut text);
    text
}

fn element(name: &str, value: &Value, depth: usize, text: &mut String) {
    let indent = "    ".repeat(depth);
    let indent = indent.as_str();
    match value {
        Value::Array(items) => {
            for item in items {
                element(name, item, depth, text);
            }
        }
        Value::Object(fields) => {
            text.extend([indent, "<", name, ">\n"]);
            children(fields, depth + 1, text);
            text.extend([indent, "</", name, ">\n"]);
        }
        scalar => {
            let scalar = escape(&plain(scalar));
            if scalar.is_empty() {
                text.extend([indent, "<", name, "/>\n"]);
            } else {
                text.extend([indent, "<", name, ">", &scalar, "</", name, ">\n"]);
            }
        }
    }
}

fn children(fields: &Map<String, Value>, depth: usize, text: &mut String) {
    for (name, value) in fields {
        element(name, value, depth, text);
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A scalar without quotes; null is empty.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
#[path = "format_tests.rs"]
mod tests;

//! Bounds of everything that an author writes, checked before any parser of ours or of a library sees it. The custom resource's schema
//! has tighter ones, but an object that was stored under an older schema is not checked against them.

use serde::Serialize;
use serde_json::Value;

/// Bytes of the whole spec as JSON: it is mounted from ConfigMaps, which take 1 MiB.
const MAX_SPEC: usize = 512 << 10;
/// Characters of one text.
const MAX_TEXT: usize = 4096;
/// Characters of `spec.source.http.body`.
const MAX_BODY: usize = 65_536;
/// Levels of lists and objects; the schema's own have 12.
const MAX_NESTING: usize = 32;
/// Problems that a message lists.
const LISTED: usize = 10;

/// What exceeds a bound: the field, and the bound.
pub(super) fn problems(spec: &impl Serialize) -> Vec<String> {
    let spec = match serde_json::to_value(spec) {
        Ok(spec) => spec,
        Err(error) => return vec![format!("spec: cannot be written as JSON: {error}")],
    };
    let size = spec.to_string().len();
    if size > MAX_SPEC {
        return vec![format!("spec: is {size} bytes long; at most {MAX_SPEC} are allowed")];
    }
    let mut problems = Vec::new();
    let mut rest = vec![("spec".to_owned(), &spec, 0)];
    while let Some((path, value, depth)) = rest.pop() {
        if depth > MAX_NESTING {
            problems.push(format!("{path}: nests more than {MAX_NESTING} lists and objects"));
            continue;
        }
        match value {
            Value::String(text) => problems.extend(too_long(&path, text)),
            Value::Array(items) => rest.extend(items.iter().enumerate().map(|(i, item)| (format!("{path}[{i}]"), item, depth + 1))),
            Value::Object(members) => {
                for (name, member) in members {
                    problems.extend(too_long(&path, name));
                    rest.push((format!("{path}.{name}"), member, depth + 1));
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
        if problems.len() >= LISTED {
            problems.push("further problems are not listed".to_owned());
            break;
        }
    }
    problems
}

fn too_long(path: &str, text: &str) -> Option<String> {
    let most = if path == "spec.source.http.body" { MAX_BODY } else { MAX_TEXT };
    // A character is four bytes at most.
    let length = if text.len() > most { text.chars().count() } else { 0 };
    (length > most).then(|| format!("{path}: is {length} characters long; at most {most} are allowed"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_spec_within_the_bounds_has_no_problem() {
        let nested = (0..30).fold(json!(1), |inner, _| json!([inner]));
        let spec = json!({"source": {"http": {"body": "é".repeat(MAX_BODY)}}, "text": "é".repeat(MAX_TEXT), "default": nested});
        assert_eq!(problems(&spec), Vec::<String>::new());
    }

    #[test]
    fn what_exceeds_a_bound_is_named_with_the_bound() {
        let nested = (0..40).fold(json!(1), |inner, _| json!({"a": inner}));
        for (spec, says) in [
            (
                json!({"record": {"fields": [{"expr": "x".repeat(4097)}]}}),
                "spec.record.fields[0].expr: is 4097 characters long; at most 4096 are allowed",
            ),
            (
                json!({"source": {"http": {"body": "x".repeat(65_537)}}}),
                "spec.source.http.body: is 65537 characters long; at most 65536 are allowed",
            ),
            (json!({"labels": {"x".repeat(5000): "y"}}), "spec.labels: is 5000 characters long"),
            (json!({"default": nested}), ": nests more than 32 lists and objects"),
            (json!(vec!["x".repeat(4000); 200]), "spec: is 800"),
        ] {
            let found = problems(&spec);
            assert!(found.len() == 1 && found[0].contains(says), "{found:?}");
        }
        assert_eq!(problems(&json!(vec!["x".repeat(4097); 50])).len(), LISTED + 1);
    }
}

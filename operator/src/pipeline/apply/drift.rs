//! Drift: where a live object lacks values of the desired one. Additional values of other writers are fine.

use serde_json::{Map, Value};

use crate::pipeline::model::quantity;

/// The paths of desired values that `live` lacks, such as `spec.template.spec.containers[worker].image`. Items of lists are matched
/// by `name` or `uid` where they have one, quantities by value. Another list is one value.
pub fn differences(live: &Value, desired: &Value) -> Vec<String> {
    let mut paths = Vec::new();
    compare(live, desired, "", &mut paths);
    paths
}

fn compare(live: &Value, desired: &Value, path: &str, paths: &mut Vec<String>) {
    match (live, desired) {
        (_, Value::Null) => {}
        (Value::Object(live), Value::Object(desired)) => {
            for (key, desired) in desired {
                let path = member(path, key);
                match live.get(key) {
                    Some(live) => compare(live, desired, &path, paths),
                    None if is_empty(desired) => {}
                    None => paths.push(path),
                }
            }
        }
        (Value::Array(live), Value::Array(desired)) => compare_lists(live, desired, path, paths),
        (Value::String(live), Value::String(desired)) if live == desired || quantity::same(live, desired) => {}
        (live, desired) if live == desired => {}
        _ => paths.push(path.to_owned()),
    }
}

fn compare_lists(live: &[Value], desired: &[Value], path: &str, paths: &mut Vec<String>) {
    let Some(key) = ["name", "uid"]
        .into_iter()
        .find(|&key| !desired.is_empty() && desired.iter().all(|item| item.get(key).is_some()))
    else {
        let is_same = live.len() == desired.len()
            && live
                .iter()
                .zip(desired)
                .all(|(live, desired)| differences(live, desired).is_empty());
        if !is_same {
            paths.push(path.to_owned());
        }
        return;
    };
    for desired in desired {
        let named = || live.iter().filter(|item| item.get(key) == desired.get(key));
        if named().any(|item| differences(item, desired).is_empty()) {
            continue;
        }
        let path = format!("{path}[{}]", desired[key].as_str().unwrap_or_default());
        match named().next() {
            Some(item) => compare(item, desired, &path, paths),
            None => paths.push(path),
        }
    }
}

fn member(path: &str, key: &str) -> String {
    match (path, key.contains(['.', '/'])) {
        ("", _) => key.to_owned(),
        (_, true) => format!("{path}[{key}]"),
        (_, false) => format!("{path}.{key}"),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.values().all(is_empty) || *map == Map::new(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn defaults_and_injected_values_are_no_drift() {
        let desired = json!({"spec": {"a": 1, "list": [{"name": "x", "v": 1}], "limits": {"cpu": "1000m"}, "none": null, "empty": {}}});
        let live = json!({"spec": {"a": 1, "b": 2, "list": [{"name": "sidecar"}, {"name": "x", "v": 1, "w": 2}], "limits": {"cpu": "1"}}, "status": {}});
        assert_eq!(differences(&live, &desired), [""; 0]);
    }

    #[test]
    fn a_changed_or_missing_value_is_drift_at_its_path() {
        let desired = json!({"a": 1, "args": ["x", "y"], "list": [{"name": "x", "v": {"cpu": 1}}], "annotations": {"x.dev/y": "z"}});
        let live = |path: &str, value: Value| {
            let mut live = desired.clone();
            *live.pointer_mut(path).unwrap() = value;
            live
        };
        for (live, path) in [
            (live("/a", json!(2)), "a"),
            (live("/args", json!(["x"])), "args"),
            (live("/args", json!(["x", "z"])), "args"),
            (live("/list", json!([])), "list[x]"),
            (live("/list", json!([{"name": "y"}])), "list[x]"),
            (live("/list/0/v/cpu", json!(2)), "list[x].v.cpu"),
            (live("/list/0", json!({"name": "x"})), "list[x].v"),
            (live("/annotations", json!({"x": "z"})), "annotations[x.dev/y]"),
        ] {
            assert_eq!(differences(&live, &desired), [path], "{live}");
        }
        assert_eq!(differences(&json!({}), &desired), ["a", "args", "list", "annotations"]);
    }
}

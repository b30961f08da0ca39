//! Drift: whether a live object still has all values of the desired one. Additional values of other writers are fine.

use serde_json::{Map, Value};

use crate::pipeline::model::quantity;

/// Whether `live` has every value of `desired`. Items of lists are matched by `name` or `uid` where they have one, quantities by
/// value.
pub fn contains(live: &Value, desired: &Value) -> bool {
    match (live, desired) {
        (_, Value::Null) => true,
        (Value::Object(live), Value::Object(desired)) => desired
            .iter()
            .all(|(key, desired)| live.get(key).map_or_else(|| is_empty(desired), |value| contains(value, desired))),
        (Value::Array(live), Value::Array(desired)) => contains_list(live, desired),
        (Value::String(live), Value::String(desired)) => live == desired || quantity::same(live, desired),
        (live, desired) => live == desired,
    }
}

fn contains_list(live: &[Value], desired: &[Value]) -> bool {
    let Some(key) = ["name", "uid"]
        .into_iter()
        .find(|&key| !desired.is_empty() && desired.iter().all(|item| item.get(key).is_some()))
    else {
        return live.len() == desired.len() && live.iter().zip(desired).all(|(live, desired)| contains(live, desired));
    };
    desired
        .iter()
        .all(|desired| live.iter().any(|item| item.get(key) == desired.get(key) && contains(item, desired)))
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
        assert!(contains(&live, &desired));
    }

    #[test]
    fn a_changed_or_missing_value_is_drift() {
        let desired = json!({"a": 1, "args": ["x", "y"], "list": [{"name": "x", "v": 1}]});
        for live in [
            json!({"a": 2, "args": ["x", "y"], "list": [{"name": "x", "v": 1}]}),
            json!({"args": ["x", "y"], "list": [{"name": "x", "v": 1}]}),
            json!({"a": 1, "args": ["x"], "list": [{"name": "x", "v": 1}]}),
            json!({"a": 1, "args": ["x", "y"], "list": []}),
            json!({"a": 1, "args": ["x", "y"], "list": [{"name": "x", "v": 2}]}),
        ] {
            assert!(!contains(&live, &desired), "{live}");
        }
    }
}

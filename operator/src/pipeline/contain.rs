//! Whether a live object still holds all that is wanted of it, whatever else it holds.

use serde_json::{Map, Value};

use super::quantity;

/// Whether `live` holds every value of `desired`. Lists of named things are compared by name; quantities by value.
pub fn contains(live: &Value, desired: &Value) -> bool {
    match (live, desired) {
        (_, Value::Null) => true,
        (Value::Object(live), Value::Object(desired)) => desired
            .iter()
            .all(|(key, wanted)| live.get(key).map_or_else(|| is_empty(wanted), |value| contains(value, wanted))),
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
        .all(|wanted| live.iter().any(|item| item.get(key) == wanted.get(key) && contains(item, wanted)))
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
    fn defaults_and_injected_things_do_not_matter() {
        let desired = json!({"spec": {"a": 1, "list": [{"name": "x", "v": 1}], "limits": {"cpu": "1000m"}, "none": null, "empty": {}}});
        let live = json!({"spec": {"a": 1, "b": 2, "list": [{"name": "sidecar"}, {"name": "x", "v": 1, "w": 2}], "limits": {"cpu": "1"}}, "status": {}});
        assert!(contains(&live, &desired));
    }

    #[test]
    fn a_changed_or_missing_value_matters() {
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

//! The fields of aggregates.

use serde_json::{Value, json};

/// Declares an aggregate, and fields for its windows.
pub(super) fn make_room(spec: &mut Value, path: &str) {
    let at = ["at", "seen"].map(|name| json!({"name": name, "type": "timestamp", "from": "/at"}));
    spec["record"]["fields"].as_array_mut().unwrap().extend(at);
    let value = if path.contains("/values/0/") && !path.ends_with("/name") {
        json!({"name": "n"})
    } else {
        json!({"name": "n", "count": {}})
    };
    spec["aggregates"] = json!([{"name": "a", "window": {"field": "at", "every": "1h"}, "values": [value]}]);
}

/// Values that only these fields may take.
pub(super) fn values(path: &str, schema: &Value) -> Option<Vec<Value>> {
    let is_value = path.starts_with("/aggregates/0/values/0/") && schema["type"] == "string";
    match path {
        "/aggregates/0/groupBy" => Some(vec![json!(["one"]), json!(["two"])]),
        "/aggregates/0/window/field" => Some(vec![json!("at"), json!("seen")]),
        "/aggregates/0/window/hop" => Some(vec![json!("30m"), json!("15m")]),
        _ if is_value => Some(vec![json!("two"), json!("one")]),
        _ => None,
    }
}

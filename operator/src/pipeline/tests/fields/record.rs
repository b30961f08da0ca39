//! The fields of a record.

use serde_json::{Value, json};

/// Declares the mask that a part of it belongs to.
pub(super) fn mask(field: &mut Value, path: &str) {
    let (field_type, mask) = match path.rsplit_once('/').map_or(path, |(_, part)| part) {
        "length" => ("string", json!({"with": "Truncate"})),
        "size" => ("long", json!({"with": "Bucket"})),
        "period" => ("date", json!({"with": "Bucket"})),
        "name" | "key" => ("string", json!({"with": "HMAC", "keySecretRef": {"name": "masks", "key": "three"}})),
        _ => ("string", json!({})),
    };
    field["type"] = json!(field_type);
    field["mask"] = mask;
}

/// Values that only these fields may take.
pub(super) fn values(path: &str, schema: &Value) -> Option<Vec<Value>> {
    let path = path.strip_prefix("/record/")?;
    if !schema["enum"].is_null() || schema["type"] == "boolean" {
        return None;
    }
    let texts = match path {
        "key" => return Some(vec![json!(["one"]), json!(["two", "one"])]),
        "clusterBy" => return Some(vec![json!(["two"]), json!([])]),
        "fields/0/mask/length" | "fields/0/mask/size" => return Some(vec![json!(3), json!(5)]),
        "orderBy" => vec!["two"],
        "deleteWhen" | "fields/0/expr" => vec!["has(item.gone)", "item.one == '1'"],
        "where" => vec!["one == 'x'", "size(one) > 2"],
        "fields/0/from" => vec!["/three", "/four"],
        "fields/0/template" => vec!["{/three} {/four}", "{/five}"],
        "fields/0/timeZone" => vec!["Europe/Berlin", "Asia/Tokyo"],
        "fields/0/format" => vec!["RFC2822", "HTTP"],
        _ => vec!["alpha", "beta"],
    };
    Some(texts.into_iter().map(Value::from).collect())
}

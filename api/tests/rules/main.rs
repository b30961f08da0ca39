//! The rules of the resource, as a user meets them: evaluated from the CRD's own CEL, without a cluster.

#![allow(clippy::unwrap_used)]

mod changes;
mod connections;
mod forms;
mod pagination;
mod spec;
mod wires;

use serde_json::{Value, json};
use userpipeline_api::UserPipeline;

fn example() -> Value {
    serde_yaml::from_str(include_str!("../pipelines/own_addresses.yaml")).unwrap()
}

fn parse(value: Value) -> UserPipeline {
    serde_json::from_value(value).unwrap()
}

/// The example with one value set, at a path of dots.
fn with(path: &str, value: Value) -> Value {
    let mut resource = example();
    let mut at = &mut resource;
    for part in path.split('.') {
        at = &mut at[part];
    }
    *at = value;
    resource
}

fn without(path: &str) -> Value {
    let mut resource = example();
    let (parent, last) = path.rsplit_once('.').unwrap();
    resource
        .pointer_mut(&format!("/{}", parent.replace('.', "/")))
        .unwrap()
        .as_object_mut()
        .unwrap()
        .remove(last);
    resource
}

/// A record of three fields, with one value set, at a JSON pointer.
fn record(pointer: &str, value: Value) -> Value {
    let mut record = json!({"key": ["id", "at"], "clusterBy": ["at"], "orderBy": "at", "deleteWhen": "has(item.gone)", "where": "name != ''", "fields": [
        {"name": "id", "type": "string", "from": "/id"},
        {"name": "at", "type": "timestamp", "from": "/at"},
        {"name": "name", "type": "string", "from": "/name/first", "optional": true, "mask": {"with": "Truncate", "length": 1}},
    ]});
    let (parent, last) = pointer.rsplit_once('/').unwrap();
    let parent = record.pointer_mut(parent).unwrap();
    parent[last] = value;
    record
}

/// The example with others who write to its topic, in this format.
fn from_topic(format: &str) -> Value {
    let mut resource = with("spec.source", json!({"topic": {"format": format}}));
    let spec = resource["spec"].as_object_mut().unwrap();
    spec.remove("schedule");
    spec.insert("record".to_owned(), record("/fields/2/mask", Value::Null));
    resource
}

fn assert_refused<const N: usize>(specs: [(Value, &str); N]) {
    for (resource, message) in specs {
        let errors = parse(resource).validate_cel().expect_err(message).to_string();
        assert!(errors.contains(message), "expected `{message}`, got: {errors}");
    }
}

/// What the apiserver says of the example with one value set, or nothing.
fn refusal(resource: Value) -> Option<String> {
    parse(resource).validate_cel().err().map(|errors| errors.to_string())
}

#[test]
fn the_example_is_accepted() {
    parse(example()).validate_cel().unwrap();
}

//! Defaults in the CRDs.

#![allow(clippy::unwrap_used)]

use kube::{CustomResourceExt, core::cel::validate_cel_schema};
use serde_json::{Value, json};
use userpipeline_api::{
    Connections, RecordSpec, UserPipeline, UserPipelineBackfill, UserPipelineConnection,
    document::{Binary, reduce},
    resolve,
};

/// The paths of defaults below an `items`.
fn in_lists(schema: &Value, path: &str, in_list: bool, found: &mut Vec<String>) {
    let Value::Object(schema) = schema else { return };
    if in_list && schema.contains_key("default") {
        found.push(path.to_owned());
    }
    for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        in_lists(property, &format!("{path}.{name}"), in_list, found);
    }
    if let Some(values) = schema.get("additionalProperties") {
        in_lists(values, &format!("{path}.*"), in_list, found);
    }
    if let Some(items) = schema.get("items") {
        in_lists(items, &format!("{path}[]"), true, found);
    }
}

#[test]
fn items_of_lists_have_no_defaults() {
    let mut found = Vec::new();
    for crd in [UserPipeline::crd(), UserPipelineConnection::crd(), UserPipelineBackfill::crd()] {
        for version in crd.spec.versions {
            let schema = serde_json::to_value(version.schema.unwrap().open_api_v3_schema).unwrap();
            assert!(schema["properties"]["spec"]["properties"].is_object());
            in_lists(&schema, &crd.spec.names.kind, false, &mut found);
        }
    }
    assert_eq!(found, [""; 0]);
}

#[test]
fn a_stored_default_makes_the_same_documents_as_none() {
    let mut written: Value = serde_yaml::from_str(include_str!("pipelines/own_addresses.yaml")).unwrap();
    written["spec"]["record"] = json!({"key": ["id"], "fields": [
        {"name": "id", "type": "string", "from": "/id"},
        {"name": "name", "type": "string", "from": "/name", "optional": true},
    ]});
    let mut stored = written.clone();
    stored["spec"]["record"]["fields"][0]["optional"] = json!(false);
    let [written, stored] = [written, stored].map(|resource| {
        let pipeline: UserPipeline = serde_json::from_value(resource).unwrap();
        resolve(&pipeline, &Connections::new()).unwrap()
    });
    for binary in [Binary::Ingest, Binary::Worker, Binary::Schema] {
        assert_eq!(reduce(&written, binary), reduce(&stored, binary));
    }
    assert!(reduce(&written, Binary::Worker).contains("optional: false"), "as before");
}

#[test]
fn a_field_without_optional_is_as_one_that_is_not_optional() {
    let record = |optional: Value| {
        let mut id = json!({"name": "id", "type": "string", "from": "/id"});
        if !optional.is_null() {
            id["optional"] = optional;
        }
        json!({"name": "R", "namespace": "n", "key": ["id"], "fields": [id]})
    };
    let check = |new: Value, old: Option<Value>| validate_cel_schema::<RecordSpec>(&record(new), old.map(record).as_ref());
    for (new, old, allowed) in [
        (Value::Null, None, true),
        (json!(false), None, true),
        (json!(true), None, false),
        (Value::Null, Some(json!(false)), true),
        (json!(false), Some(Value::Null), true),
        (Value::Null, Some(Value::Null), true),
        (json!(true), Some(Value::Null), false),
    ] {
        let errors = check(new.clone(), old.clone());
        assert_eq!(errors.is_ok(), allowed, "{new} after {old:?}: {errors:?}");
    }
}

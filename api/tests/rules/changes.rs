//! What an edit may change, and what stored data forbids.

use serde_json::{Value, json};

use crate::{example, parse, record, with, without};

#[test]
fn what_holds_data_cannot_be_renamed_added_or_removed_by_an_edit() {
    let old = parse(example());
    for (resource, says) in [
        (
            with("spec.kafka.topic.name", json!("other")),
            "spec.kafka.topic.name cannot be changed",
        ),
        (without("spec.kafka.topic.name"), "spec.kafka.topic.name cannot be changed"),
        (with("spec.kafka.groupId", json!("other")), "spec.kafka.groupId cannot be changed"),
        (with("spec.kafka.topic.partitions", json!(3)), "can only grow"),
        (
            with("spec.kafka.topic.replicas", json!(3)),
            "spec.kafka.topic.replicas cannot be changed",
        ),
        (with("spec.landing.table", json!("other")), "spec.landing.table cannot be changed"),
        (with("spec.landing", json!({})), "spec.landing.table cannot be changed"),
        (with("spec.sinks.cassandra.keyspace", json!("other")), "keyspace cannot be changed"),
        (with("spec.sinks.cassandra.table", json!("other")), "table cannot be changed"),
        (without("spec.sinks.postgres.table"), "spec.sinks.postgres.table cannot be changed"),
    ] {
        let errors = parse(resource).validate_cel_update(&old).expect_err(says).to_string();
        assert!(errors.contains(says), "expected `{says}`, got: {errors}");
    }
}

#[test]
fn a_record_is_not_taken_away_and_added_only_as_the_one_that_is_stored() {
    let built_in = || json!({"name": "User", "key": ["id"], "fields": [{"name": "id", "type": "uuid", "from": "/login/uuid"}]});
    let with_record = |change: fn(&mut Value)| {
        let mut record = built_in();
        change(&mut record);
        parse(with("spec.record", record))
    };
    let (none, declared) = (parse(example()), with_record(|_| ()));
    declared.validate_cel_update(&none).unwrap();
    with_record(|record| record["clusterBy"] = json!([]))
        .validate_cel_update(&none)
        .unwrap();
    for (new, old, says) in [
        (&none, &declared, "spec.record cannot be removed"),
        (
            &with_record(|record| record["orderBy"] = json!("registered_date")),
            &none,
            "spec.record can be added only",
        ),
        (
            &with_record(|record| record["name"] = json!("Other")),
            &none,
            "spec.record can be added only",
        ),
        (
            &with_record(|record| record["fields"][0]["mask"] = json!({"with": "HMAC", "keySecretRef": {"name": "masks", "key": "ids"}})),
            &none,
            "spec.record can be added only",
        ),
        (
            &parse(with("spec.record", record("/orderBy", json!("at")))),
            &none,
            "spec.record can be added only",
        ),
    ] {
        let errors = new.validate_cel_update(old).expect_err(says).to_string();
        assert!(errors.contains(says), "expected `{says}`, got: {errors}");
    }
}

#[test]
fn what_is_stored_already_cannot_be_declared_otherwise() {
    let same = || record("/orderBy", json!("at"));
    let old = parse(with("spec.record", same()));
    for (pointer, value, says) in [
        ("/key", json!(["id"]), "spec.record.key cannot be changed"),
        ("/key", json!(["at", "id"]), "spec.record.key cannot be changed"),
        ("/clusterBy", json!([]), "spec.record.clusterBy cannot be changed"),
        ("/orderBy", Value::Null, "spec.record.orderBy cannot be changed"),
        ("/name", json!("Other"), "name and namespace cannot be changed"),
        ("/deleteWhen", Value::Null, "spec.record.deleteWhen cannot be removed"),
        ("/where", Value::Null, "spec.record.where cannot be removed"),
        (
            "/fields/2/mask",
            Value::Null,
            "the mask of a field cannot be added, changed or removed",
        ),
        (
            "/fields/2/mask/length",
            json!(2),
            "the mask of a field cannot be added, changed or removed",
        ),
        ("/fields/2/type", json!("long"), "the type of a field cannot be changed"),
        ("/fields/2/optional", json!(false), "whether a field is optional cannot be changed"),
    ] {
        let changed = parse(with("spec.record", record(pointer, value)));
        let errors = changed.validate_cel_update(&old).expect_err(says).to_string();
        assert!(errors.contains(says), "expected `{says}`, got: {errors}");
    }
    let mut more = same();
    let fields = more["fields"].as_array_mut().unwrap();
    fields.push(json!({"name": "level", "type": "int", "from": "/level", "default": 1}));
    fields[2]["doc"] = json!("Given name");
    more["where"] = json!("true");
    parse(with("spec.record", more)).validate_cel_update(&old).unwrap();
}

#[test]
fn what_may_change_is_accepted() {
    let old = parse(example());
    for resource in [
        with("spec.schedule.cron", json!("@daily")),
        with("spec.workers.replicas", json!(4)),
        with("spec.kafka.topic.partitions", json!(12)),
        with("spec.suspend", json!(true)),
        with(
            "spec.source.http.headers",
            json!([{"name": "Authorization", "valueFrom": {"secretKeyRef": {"name": "token", "key": "header"}}}]),
        ),
    ] {
        parse(resource).validate_cel_update(&old).unwrap();
    }
}

#[test]
fn a_required_field_that_was_added_by_mistake_can_be_taken_back_as_the_status_advises() {
    let with_field = |field: Option<Value>| {
        let mut record = record("/orderBy", json!("at"));
        record["fields"].as_array_mut().unwrap().extend(field);
        parse(with("spec.record", record))
    };
    let mistake = with_field(Some(json!({"name": "city", "type": "string", "from": "/city"})));
    // Give it a default.
    with_field(Some(json!({"name": "city", "type": "string", "from": "/city", "default": ""})))
        .validate_cel_update(&mistake)
        .unwrap();
    // Or remove it, and add it again as optional, which one step does not allow.
    let (removed, optional) = (
        with_field(None),
        with_field(Some(json!({"name": "city", "type": "string", "from": "/city", "optional": true}))),
    );
    optional.validate_cel_update(&mistake).expect_err("in one step");
    removed.validate_cel_update(&mistake).unwrap();
    optional.validate_cel_update(&removed).unwrap();
}

//! The rules of the resource, as a user meets them: evaluated from the CRD's own CEL, without a cluster.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use userpipeline_api::UserPipeline;

fn example() -> Value {
    serde_yaml::from_str(include_str!("../../examples/users.yaml")).unwrap()
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
    let mut record = json!({"key": ["id", "at"], "clusterBy": ["at"], "orderBy": "at", "deleteWhen": "has(item.gone)", "fields": [
        {"name": "id", "type": "string", "from": "/id"},
        {"name": "at", "type": "timestamp", "from": "/at"},
        {"name": "name", "type": "string", "from": "/name/first", "optional": true},
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
    spec.insert("record".to_owned(), record("/orderBy", json!("at")));
    resource
}

#[test]
fn the_example_is_accepted() {
    parse(example()).validate_cel().unwrap();
}

#[test]
fn a_topic_that_others_write_to_has_no_runs_and_records_with_versions() {
    parse(from_topic("Avro")).validate_cel().unwrap();
    let mut json = from_topic("JSON");
    json["spec"].as_object_mut().unwrap().remove("schemaRegistry");
    parse(json).validate_cel().unwrap();

    let changed = |change: fn(&mut Value)| {
        let mut resource = from_topic("Avro");
        change(&mut resource["spec"]);
        resource
    };
    for (resource, says) in [
        (
            changed(|spec| spec["schedule"] = json!({"cron": "@daily"})),
            "spec.source.topic has no runs",
        ),
        (
            changed(|spec| spec["runNow"] = json!({"nonce": "a"})),
            "spec.runNow goes with spec.source.http",
        ),
        (changed(|spec| spec["record"] = Value::Null), "needs spec.record with orderBy"),
        (
            changed(|spec| spec["record"]["orderBy"] = Value::Null),
            "needs spec.record with orderBy",
        ),
        (
            changed(|spec| spec["schemaRegistry"] = Value::Null),
            "spec.schemaRegistry is needed",
        ),
        (
            changed(|spec| spec["source"]["http"] = json!({"url": "http://source/"})),
            "exactly one of http and topic",
        ),
        (without("spec.schedule"), "spec.schedule goes with spec.source.http"),
        (without("spec.schemaRegistry"), "spec.schemaRegistry is needed"),
        (with("spec.source", json!({})), "exactly one of http and topic"),
    ] {
        let errors = parse(resource).validate_cel().expect_err(says).to_string();
        assert!(errors.contains(says), "expected `{says}`, got: {errors}");
    }
    let error = parse(from_topic("Avro"))
        .validate_cel_update(&parse(example()))
        .expect_err("changed");
    assert!(error.to_string().contains("cannot be changed between http and topic"), "{error}");
}

fn assert_refused<const N: usize>(specs: [(Value, &str); N]) {
    for (resource, message) in specs {
        let errors = parse(resource).validate_cel().expect_err(message).to_string();
        assert!(errors.contains(message), "expected `{message}`, got: {errors}");
    }
}

#[test]
fn a_spec_that_cannot_work_is_refused_with_a_message_that_names_the_field() {
    assert_refused([
        (with("spec.sinks", json!({})), "at least one of cassandra and postgres"),
        (without("spec.cassandra"), "spec.cassandra is needed by spec.sinks.cassandra"),
        (without("spec.sinks.cassandra"), "nothing is written there"),
        (with("spec.landing.table", json!("created_users")), "must differ"),
        (
            with("spec.landing.table", json!("Raw Users")),
            "spec.landing.table must be lower-case",
        ),
        (
            with("spec.deadLetter", json!({"topic": "users_created"})),
            "must differ from spec.kafka.topic.name",
        ),
        (
            with("spec.kafka.topic.name", json!("users created")),
            "spec.kafka.topic.name must be",
        ),
        (with("spec.kafka.bootstrapServers", json!("kafka")), "must be host:port"),
        (with("spec.sinks.cassandra.keyspace", json!("9lives")), "starting with a letter"),
        (
            with("spec.schemaRegistry.url", json!("http://ann:pw@registry")),
            "without user name",
        ),
        (
            with("spec.source.http.url", json!("https://ann:pw@example.com/")),
            "without a user name",
        ),
        (with("spec.source.http.url", json!("ftp://example.com/")), "http or https"),
        (with("spec.source.http.timeout", json!("1ms")), "between 100ms and 10m"),
        (
            with("spec.source.http.rateLimit", json!({"requests": 1, "per": "2h"})),
            "between 10ms and 1h",
        ),
        (
            with("spec.schedule.cron", json!("TZ=Europe/Berlin * * * * *")),
            "use spec.schedule.timeZone",
        ),
        (with("spec.workers.batch", json!({"maxLatency": "1h"})), "between 1ms and 1m"),
        (with("spec.retention", json!({"landing": "1s"})), "between 1m and 87600h"),
        (with("spec.deadLetter", json!({"retention": "1m"})), "between 1h and 87600h"),
        (with("spec.sinks.cassandra.timeToLive", json!("300000h")), "twenty years"),
        (with("metadata.name", json!("users.v1")), "without dots"),
        (with("metadata.name", json!("u".repeat(64))), "at most 63"),
    ]);
}

#[test]
fn an_invalid_header_of_the_source_is_refused() {
    assert_refused([
        (
            with("spec.source.http.headers", json!([{"name": "Authorization", "value": "Bearer x"}])),
            "from a Secret",
        ),
        (
            with("spec.source.http.headers", json!([{"name": "X-A"}])),
            "exactly one of value and valueFrom",
        ),
        (
            with("spec.source.http.headers", json!([{"name": "X A", "value": "x"}])),
            "a header's name",
        ),
    ]);
}

#[test]
fn an_invalid_record_is_refused() {
    assert_refused([
        (
            with("spec.record", record("/key", json!(["other"]))),
            "spec.record.key must name fields",
        ),
        (
            with("spec.record", record("/clusterBy", json!(["id", "at"]))),
            "spec.record.clusterBy must name some",
        ),
        (
            with("spec.record", record("/orderBy", json!("name"))),
            "spec.record.orderBy must name",
        ),
        (with("spec.record", record("/name", json!("a-b"))), "spec.record.name must be"),
        (
            with("spec.record", record("/fields/2/name", json!("_name"))),
            "a field's name must be",
        ),
        (
            with("spec.record", record("/fields/2/from", json!("name"))),
            "from must be a JSON pointer",
        ),
        (
            with("spec.record", record("/fields/2/expr", json!("item.x"))),
            "exactly one of from, template and expr",
        ),
    ]);
}

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
        (with("spec.kafka.topic.replicas", json!(3)), "cannot be changed here"),
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
        (&none, &declared, "spec.record cannot be taken away"),
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
        ("/deleteWhen", Value::Null, "spec.record.deleteWhen cannot be taken away"),
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

/// What the apiserver says of the example with one value set, or nothing.
fn refusal(resource: Value) -> Option<String> {
    parse(resource).validate_cel().err().map(|errors| errors.to_string())
}

#[test]
fn a_cron_is_checked_at_apply_by_its_form_and_ranges() {
    for cron in [
        "* * * * *",
        "*/5 0-23/2 1,15 JAN,jul ?",
        "59 23 31 12 6",
        "00 00 1 1 mon-fri",
        " 0  0 * * 0 ",
        "@daily",
        "0 0 31 2 *",
    ] {
        assert_eq!(refusal(with("spec.schedule.cron", json!(cron))), None, "{cron}");
    }
    for cron in [
        "61 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * 32 * *",
        "* * * 13 *",
        "* * * * 7",
        "* * * *",
        "0 * * * * *",
        "*/0 * * * *",
        "1,,2 * * * *",
        "@reboot",
        "every 5m",
    ] {
        let refused = refusal(with("spec.schedule.cron", json!(cron)));
        assert!(
            refused
                .as_ref()
                .is_some_and(|says| says.contains("spec.schedule.cron must have five fields")),
            "{cron}: {refused:?}"
        );
    }
}

#[test]
fn zones_templates_and_placeholders_are_checked_at_apply_by_their_form() {
    let template = |text: &str| {
        let field = json!({"name": "name", "type": "string", "template": text, "optional": true});
        let mut resource = example();
        resource["spec"]["record"] = record("/orderBy", json!("at"));
        resource["spec"]["record"]["fields"][2] = field;
        resource
    };
    let query = |text: &str| with("spec.source.http.query", json!([{"name": "q", "value": text}]));
    let url = |text: &str| with("spec.source.http.url", json!(text));
    for accepted in [
        with("spec.schedule.timeZone", json!("America/Argentina/Buenos_Aires")),
        with("spec.schedule.timeZone", json!("Etc/GMT+5")),
        template("{/a/b}, {/c}!"),
        query("{{interval.start}}-{{ run.id }}"),
        query("{"),
        query("a}}b"),
        url("http://source/{{run.id}}"),
    ] {
        assert_eq!(refusal(accepted.clone()), None, "{accepted}");
    }
    for (refused, says) in [
        (with("spec.schedule.timeZone", json!("../etc")), "spec.schedule.timeZone must be"),
        (with("spec.schedule.timeZone", json!("Europe/")), "spec.schedule.timeZone must be"),
        (template("{/a"), "a template must have JSON pointers in braces"),
        (template("{a}"), "a template must have JSON pointers in braces"),
        (template("/a}"), "a template must have JSON pointers in braces"),
        (template("a"), "a template must have JSON pointers in braces"),
        (query("{{interval.start"), "spec.source.http.query has a placeholder without an end"),
        (query("{{run.id}} {{"), "spec.source.http.query has a placeholder without an end"),
        (
            url("http://source/{{run.id"),
            "spec.source.http.url has a placeholder without an end",
        ),
    ] {
        let found = refusal(refused);
        assert!(found.as_ref().is_some_and(|found| found.contains(says)), "{says}: {found:?}");
    }
}

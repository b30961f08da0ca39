//! A spec that cannot work is refused.

use serde_json::{Value, json};
use userpipeline_api::UserPipeline;

use crate::{assert_refused, example, from_topic, parse, record, refusal, with, without};

#[test]
fn a_mask_has_what_it_needs_and_no_more() {
    let with_mask = |mask: Value| with("spec.record", record("/fields/2/mask", mask));
    assert_refused([
        (with_mask(json!({"with": "HMAC"})), "mask.keySecretRef is required with HMAC"),
        (
            with_mask(json!({"with": "Redact", "keySecretRef": {"name": "a", "key": "b"}})),
            "mask.keySecretRef is required with HMAC, and not allowed otherwise",
        ),
        (with_mask(json!({"with": "Truncate"})), "mask.length is required with Truncate"),
        (
            with_mask(json!({"with": "Redact", "length": 1})),
            "mask.length is required with Truncate, and not allowed otherwise",
        ),
        (
            with_mask(json!({"with": "Bucket"})),
            "exactly one of mask.size and mask.period is required with Bucket",
        ),
        (
            with_mask(json!({"with": "Bucket", "size": 1, "period": "Day"})),
            "exactly one of mask.size and mask.period is required with Bucket",
        ),
        (with_mask(json!({"with": "Redact", "size": 1})), "neither is allowed otherwise"),
    ]);
    for (mask, message) in [
        (json!({"with": "Hash"}), "unknown variant"),
        (json!({"with": "Truncate", "length": -1}), "invalid value"),
    ] {
        let error = serde_json::from_value::<UserPipeline>(with_mask(mask)).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    let mut topic = from_topic("JSON");
    topic["spec"]["record"] = record("/orderBy", json!("at"));
    assert_refused([(topic, "a mask of a field of spec.record needs spec.source.http")]);
    assert_eq!(refusal(with_mask(json!({"with": "Redact"}))), None);
}

#[test]
fn a_mask_fits_the_type_and_the_use_of_its_field() {
    let key = json!({"name": "masks", "key": "email"});
    let masked = |field: usize, field_type: &str, mask: Value| {
        let mut record = record("/fields/2/mask", Value::Null);
        record["fields"][field]["type"] = json!(field_type);
        record["fields"][field]["mask"] = mask;
        with("spec.record", record)
    };
    let hmac = || json!({"with": "HMAC", "keySecretRef": key});
    let bucket = |member: &str, value: Value| json!({"with": "Bucket", member: value});
    let mut required = masked(2, "long", json!({"with": "Redact"}));
    required["spec"]["record"]["fields"][2]["optional"] = json!(false);
    assert_refused([
        (masked(2, "long", hmac()), "mask.with: HMAC needs a field of type string or uuid"),
        (
            masked(2, "json", json!({"with": "Truncate", "length": 1})),
            "mask.with: Truncate needs a field of type string",
        ),
        (required, "mask.with: Redact needs a field that is optional or of type string"),
        (
            masked(2, "string", bucket("size", json!(5))),
            "mask.with: Bucket needs size in a field",
        ),
        (
            masked(2, "long", bucket("period", json!("Day"))),
            "mask.with: Bucket needs size in a field",
        ),
        (
            masked(2, "date", bucket("size", json!(5))),
            "mask.with: Bucket needs size in a field",
        ),
        (
            masked(0, "string", json!({"with": "Redact"})),
            "a field of spec.record.key can be masked only with HMAC",
        ),
        (
            masked(1, "timestamp", bucket("period", json!("Day"))),
            "the field of spec.record.orderBy cannot have a mask",
        ),
    ]);
    for accepted in [
        masked(2, "uuid", hmac()),
        masked(0, "string", hmac()),
        masked(2, "json", json!({"with": "Redact"})),
        masked(2, "double", bucket("size", json!(5))),
        masked(2, "date", bucket("period", json!("Year"))),
    ] {
        assert_eq!(refusal(accepted), None);
    }
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
            "not allowed with spec.source.topic, which has no runs",
        ),
        (
            changed(|spec| spec["runNow"] = json!({"nonce": "a"})),
            "spec.runNow is not allowed with spec.source.topic",
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
        (without("spec.schedule"), "spec.schedule is required with spec.source.http"),
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

#[test]
fn a_spec_that_cannot_work_is_refused_with_a_message_that_names_the_field() {
    assert_refused([
        (with("spec.sinks", json!({})), "at least one of cassandra and postgres"),
        (without("spec.cassandra"), "spec.cassandra is needed by spec.sinks.cassandra"),
        (without("spec.sinks.cassandra"), "nothing is written there"),
        (with("spec.landing.table", json!("created_users")), "must differ"),
        (
            with("spec.landing.table", json!("Raw Users")),
            "spec.landing.table must contain only lower-case",
        ),
        (
            with("spec.deadLetter", json!({"topic": "users_created"})),
            "must differ from spec.kafka.topic.name",
        ),
        (
            with("spec.kafka.topic.name", json!("users created")),
            "spec.kafka.topic.name must contain only",
        ),
        (with("spec.kafka.bootstrapServers", json!("kafka")), "must be host:port"),
        (with("spec.sinks.cassandra.keyspace", json!("9lives")), "start with a letter"),
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
        (with("spec.sinks.cassandra.timeToLive", json!("300000h")), "20 years"),
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
fn only_a_topic_has_events_and_they_have_no_deletes() {
    let mut deletes = from_topic("JSON");
    deletes["spec"]["record"]["changes"] = json!("Never");
    let mut fetched = record("/changes", json!("Never"));
    fetched["deleteWhen"] = Value::Null;
    assert_refused([
        (deletes.clone(), "spec.record.changes: Never does not go with deleteWhen"),
        (with("spec.record", fetched), "spec.record.changes: Never needs spec.source.topic"),
    ]);
    deletes["spec"]["record"]["deleteWhen"] = Value::Null;
    parse(deletes).validate_cel().unwrap();
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
        (
            with("spec.record", record("/name", json!("a-b"))),
            "spec.record.name must contain only",
        ),
        (
            with("spec.record", record("/fields/2/name", json!("xmin"))),
            "the name of a system column of PostgreSQL",
        ),
        (
            with("spec.record", record("/fields/2/epoch", json!("Seconds"))),
            "epoch, timeZone and format of a field need type timestamp",
        ),
        (
            with("spec.record", record("/fields/2/name", json!("_name"))),
            "a field's name must contain only",
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

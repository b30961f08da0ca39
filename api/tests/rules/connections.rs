//! Connections, and pipelines that refer to them.

use serde_json::{Value, json};
use userpipeline_api::{UserPipeline, UserPipelineConnection};

use crate::{assert_refused, example, parse};

/// A pipeline of nine lines.
fn short() -> Value {
    json!({
        "apiVersion": "userpipeline.dev/v1alpha1", "kind": "UserPipeline", "metadata": {"name": "users", "namespace": "demo"},
        "spec": {
            "connections": [{"name": "stores"}, {"name": "crm"}],
            "schedule": {"cron": "*/5 * * * *"},
            "source": {"http": {"path": "/users"}},
            "sinks": {"cassandra": {}, "postgres": {}},
        },
    })
}

/// The short pipeline with one value set, at a path of dots below the spec.
fn with(path: &str, value: Value) -> Value {
    set(short(), path, value)
}

fn set(mut resource: Value, path: &str, value: Value) -> Value {
    let mut at = &mut resource["spec"];
    for part in path.split('.') {
        at = &mut at[part];
    }
    *at = value;
    resource
}

fn without(mut resource: Value, field: &str) -> Value {
    resource["spec"].as_object_mut().unwrap().remove(field);
    resource
}

#[test]
fn a_pipeline_may_take_everything_from_connections() {
    for resource in [
        short(),
        with(
            "kafka",
            json!({"groupId": "g", "topic": {"name": "users", "config": {"retention.ms": "1"}}}),
        ),
        with("schemaRegistry", json!({"compatibility": "FULL"})),
        with("source.http.query", json!([{"name": "state", "value": "{{arguments.state}}"}])),
        with("source.http.path", json!("/users/{{interval.start.date}}")),
        with("source.http.headers", json!([{"name": "Accept", "value": "application/json"}])),
    ] {
        parse(resource).validate_cel().unwrap();
    }
}

#[test]
fn without_connections_each_block_is_needed() {
    let alone = without(short(), "connections");
    let none = with("connections", json!([]));
    for (resource, says) in [
        (alone.clone(), "spec.postgres is needed"),
        (alone.clone(), "spec.kafka.bootstrapServers is needed"),
        (alone.clone(), "spec.schemaRegistry is needed"),
        (alone.clone(), "spec.cassandra is needed by spec.sinks.cassandra"),
        (alone.clone(), "spec.sinks.cassandra.replication is needed"),
        (alone, "spec.source.http.path needs a connection"),
        (none, "spec.postgres is needed"),
    ] {
        assert_refused([(resource, says)]);
    }
}

#[test]
fn a_block_is_set_as_a_whole() {
    assert_refused([
        (with("kafka", json!({"tls": {}})), "belong to spec.kafka.bootstrapServers"),
        (
            with("kafka", json!({"auth": {"scramSha512": {"credentialsSecretRef": {"name": "a"}}}})),
            "belong to spec.kafka.bootstrapServers",
        ),
        (
            with("schemaRegistry", json!({"tls": {"clientSecretRef": {"name": "a"}}})),
            "spec.schemaRegistry.tls needs an https address",
        ),
    ]);
}

#[test]
fn a_path_brings_no_address_and_no_credentials_of_its_own() {
    let secret = json!({"secretKeyRef": {"name": "other", "key": "token"}});
    let path = |text: &str| with("source.http.path", json!(text));
    let below = "because it stays below the connection's baseUrl";
    assert_refused([
        (
            with("source.http.url", json!("https://evil.example/")),
            "exactly one of url, and path",
        ),
        (with("source.http", json!({})), "exactly one of url, and path"),
        (
            with("source.http.auth", json!({"bearer": secret})),
            "are not allowed with spec.source.http.path",
        ),
        (
            with("source.http.tls", json!({"clientSecretRef": {"name": "other"}})),
            "are not allowed with spec.source.http.path",
        ),
        (
            with("source.http.allowedHosts", json!(["evil.example"])),
            "are not allowed with spec.source.http.path",
        ),
        (
            with("source.http.headers", json!([{"name": "X-Token", "valueFrom": secret}])),
            "only the connection may have headers from Secrets",
        ),
        (
            with("source.http.headers", json!([{"name": "Host", "value": "evil.example"}])),
            "and a header Host",
        ),
        (
            with("pods.ingest.proxy", json!({"http": "http://evil.example"})),
            "spec.pods.ingest.proxy is not allowed with spec.source.http.path",
        ),
        (path("users"), "must begin with '/'"),
        (path("https://evil.example/"), "must begin with '/'"),
        (path("/users?to=evil"), "put parameters into spec.source.http.query"),
        (path("/@evil.example"), "only the characters of a URL's path"),
        (path("/\\evil.example"), "only the characters of a URL's path"),
        (path("//evil.example"), below),
        (path("/a/../b"), below),
        (path("/%2E%2e/b"), below),
        (path("/a%2fb"), below),
        (path("/{{arguments.host}}"), "must not contain arguments or the cursor"),
        (path("/{{ cursor }}"), "must not contain arguments or the cursor"),
        (path("/{{run.id"), "spec.source.http.path has an unclosed placeholder"),
    ]);
}

#[test]
fn a_removed_or_added_block_renames_nothing() {
    let named = |kafka: Value| with("kafka", kafka);
    let update = |new: Value, old: Value| parse(new).validate_cel_update(&parse(old)).map_err(|errors| errors.to_string());
    let topic = "spec.kafka.topic.name cannot be changed";
    let group = "spec.kafka.groupId cannot be changed";
    for (old, new, says) in [
        (named(json!({"topic": {"name": "users"}})), short(), topic),
        (short(), named(json!({"topic": {"name": "users"}})), topic),
        (named(json!({"groupId": "g"})), short(), group),
        (short(), named(json!({"groupId": "g"})), group),
        (named(json!({"topic": {"partitions": 12}})), short(), "can only grow"),
        (
            named(json!({"topic": {"replicas": 3}})),
            named(json!({"topic": {"replicas": 1}})),
            "spec.kafka.topic.replicas cannot be changed",
        ),
        (named(json!({"topic": {"partitions": 6}})), short(), ""),
        (short(), named(json!({"topic": {"partitions": 12}})), ""),
        // A connection may have the same number, which the rule does not see. The schema Job compares it.
        (named(json!({"topic": {"replicas": 3}})), short(), ""),
    ] {
        let result = update(new.clone(), old.clone());
        match says {
            "" => result.unwrap(),
            says => assert!(
                result.as_ref().is_err_and(|errors| errors.contains(says)),
                "{old} {new}: {result:?}"
            ),
        }
    }
    // From blocks of its own to connections.
    let mut moved = example();
    for field in ["postgres", "schemaRegistry", "cassandra"] {
        moved = without(moved, field);
    }
    let kafka = moved["spec"]["kafka"].as_object_mut().unwrap();
    kafka.retain(|field, _| !["bootstrapServers", "tls", "auth"].contains(&field.as_str()));
    moved["spec"]["connections"] = json!([{"name": "stores"}]);
    update(moved, example()).unwrap();
}

fn connection(spec: &Value) -> Option<String> {
    let resource: UserPipelineConnection = serde_json::from_value(json!({
        "apiVersion": "userpipeline.dev/v1alpha1", "kind": "UserPipelineConnection", "metadata": {"name": "stores"}, "spec": spec,
    }))
    .unwrap();
    resource.validate_cel().err().map(|errors| errors.to_string())
}

#[test]
fn a_connection_is_checked_at_apply() {
    let http = |url: &str| json!({"http": {"baseUrl": url}});
    let plain = json!({"plain": {"credentialsSecretRef": {"name": "kafka"}}});
    for accepted in [
        http("https://crm.example"),
        http("https://crm.example:8443/api/"),
        json!({"kafka": {"bootstrapServers": "a:9092,b:9092", "topic": {"replicas": 3}}}),
        json!({"kafka": {"bootstrapServers": "a:9093", "tls": {}, "auth": plain}}),
    ] {
        assert_eq!(connection(&accepted), None, "{accepted}");
    }
    for (refused, says) in [
        (json!({}), "spec needs at least one of"),
        (http("https://ann:pw@crm.example"), "spec.http.baseUrl must be"),
        (http("https://crm.example/api?key=1"), "spec.http.baseUrl must be"),
        (http("https://{{arguments.host}}/"), "spec.http.baseUrl must be"),
        (http("ftp://crm.example"), "spec.http.baseUrl must be"),
        (json!({"kafka": {"bootstrapServers": "kafka"}}), "must be host:port"),
        (
            json!({"kafka": {"bootstrapServers": "a:9093", "auth": plain}}),
            "spec.kafka.auth.plain needs spec.kafka.tls",
        ),
        (
            json!({"schemaRegistry": {"url": "http://registry", "auth": {"basic": {"credentialsSecretRef": {"name": "a"}}}}}),
            "credentials are not sent in plain text",
        ),
        (
            json!({"http": {"baseUrl": "https://crm.example", "headers": [{"name": "Cookie", "value": "a"}]}}),
            "must take its value from a Secret",
        ),
    ] {
        let found = connection(&refused);
        assert!(found.as_ref().is_some_and(|found| found.contains(says)), "{says}: {found:?}");
    }
}

#[test]
fn a_connection_to_strimzi_names_a_listener_and_nothing_that_the_listener_decides() {
    let listener = json!({"cluster": "events", "namespace": "kafka", "listener": "tls"});
    let kafka = |members: Value| {
        let mut kafka = json!({"strimzi": listener});
        kafka.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        json!({"kafka": kafka})
    };
    let login = json!({"credentialsSecretRef": {"name": "kafka"}});
    for accepted in [
        kafka(json!({})),
        kafka(json!({"auth": {"scramSha512": login}, "topic": {"replicas": 3}})),
        kafka(json!({"auth": {"strimziUser": {}}})),
        kafka(json!({"auth": {"strimziUser": {"secretRef": {"name": "shop"}, "username": "shop"}}})),
    ] {
        assert_eq!(connection(&accepted), None, "{accepted}");
    }
    for (refused, says) in [
        (
            kafka(json!({"bootstrapServers": "a:9093"})),
            "exactly one of bootstrapServers and strimzi",
        ),
        (json!({"kafka": {}}), "exactly one of bootstrapServers and strimzi"),
        (kafka(json!({"tls": {}})), "spec.kafka.tls is not allowed with spec.kafka.strimzi"),
        (
            json!({"kafka": {"bootstrapServers": "a:9093", "auth": {"strimziUser": {}}}}),
            "spec.kafka.auth.strimziUser needs spec.kafka.strimzi",
        ),
        (
            kafka(json!({"auth": {"strimziUser": {}, "scramSha512": login}})),
            "exactly one of scramSha512, scramSha256, plain and strimziUser",
        ),
        (
            kafka(json!({"auth": {"strimziUser": {"username": "shop"}}})),
            "spec.kafka.auth.strimziUser.username needs secretRef",
        ),
        (
            kafka(json!({"auth": {"strimziUser": {"secretRef": {"name": "shop"}, "username": "A b"}}})),
            "must be the name of a KafkaUser",
        ),
    ] {
        let found = connection(&refused);
        assert!(found.as_ref().is_some_and(|found| found.contains(says)), "{says}: {found:?}");
    }
    let own = json!({"bootstrapServers": "a:9093", "auth": {"strimziUser": {}}});
    assert_refused([(with("kafka", own), "spec.kafka.auth.strimziUser is not allowed in a pipeline")]);
}

#[test]
fn connections_are_listed_once_and_at_most_four() {
    let crd = serde_json::to_value(<UserPipeline as kube::CustomResourceExt>::crd()).unwrap();
    let list = crd
        .pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/connections")
        .unwrap();
    assert_eq!(
        (
            &list["maxItems"],
            &list["x-kubernetes-list-type"],
            &list["x-kubernetes-list-map-keys"]
        ),
        (&json!(4), &json!("map"), &json!(["name"]))
    );
}

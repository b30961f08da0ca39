//! What the pods are handed.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use userpipeline_api::{
    Connections, ResolvedPipeline, UserPipeline,
    document::{Binary, IngestPipeline, SchemaPipeline, WorkerPipeline, reduce},
    resolve,
};

const EXAMPLE: &str = include_str!("pipelines/own_addresses.yaml");

/// The smallest useful pipeline: every name is left to us.
const MINIMAL: &str = "
apiVersion: userpipeline.dev/v1alpha1
kind: UserPipeline
metadata: {name: users, namespace: demo}
spec:
  schedule: {cron: '@daily'}
  source: {http: {url: 'https://randomuser.me/api/?results=100'}}
  postgres: {host: db, database: app, credentialsSecretRef: {name: db}}
  kafka: {bootstrapServers: 'kafka:9092'}
  schemaRegistry: {url: 'http://registry'}
  sinks: {postgres: {}}
";

/// One that uses tables of somebody else, and forgets what it has landed.
fn not_ours() -> String {
    MINIMAL.replace("sinks: {postgres: {}}", "sinks: {postgres: {management: None}}")
        + "  landing: {table: raw, management: None}\n  retention: {landing: 1h}\n"
}

fn pipeline(text: &str) -> ResolvedPipeline {
    resolved(&serde_yaml::from_str(text).unwrap())
}

fn resolved(pipeline: &UserPipeline) -> ResolvedPipeline {
    resolve(pipeline, &Connections::new()).unwrap()
}

#[test]
fn each_binary_is_handed_only_what_it_uses() {
    for (binary, name) in [(Binary::Ingest, "ingest"), (Binary::Worker, "worker"), (Binary::Schema, "schema")] {
        insta::assert_snapshot!(format!("example-{name}"), reduce(&pipeline(EXAMPLE), binary));
        insta::assert_snapshot!(format!("minimal-{name}"), reduce(&pipeline(MINIMAL), binary));
    }
}

#[test]
fn the_file_a_user_applies_and_the_reduced_one_read_alike() {
    for text in [EXAMPLE, MINIMAL, &not_ours()] {
        let of = |binary| reduce(&pipeline(text), binary);
        assert_eq!(
            format!("{:?}", IngestPipeline::read(text).unwrap()),
            format!("{:?}", IngestPipeline::read(&of(Binary::Ingest)).unwrap())
        );
        assert_eq!(
            format!("{:?}", WorkerPipeline::read(text).unwrap()),
            format!("{:?}", WorkerPipeline::read(&of(Binary::Worker)).unwrap())
        );
        let (applied, reduced) = (
            SchemaPipeline::read(text).unwrap(),
            SchemaPipeline::read(&of(Binary::Schema)).unwrap(),
        );
        assert_eq!(
            (applied.topic, applied.landing_table, applied.postgres_table),
            (reduced.topic, reduced.landing_table, reduced.postgres_table)
        );
    }
}

#[test]
fn a_change_that_a_binary_does_not_use_does_not_change_its_file() {
    let before = pipeline(EXAMPLE);
    let mut value: Value = serde_yaml::from_str(EXAMPLE).unwrap();
    value["spec"]["schedule"]["backoffLimit"] = json!(7);
    value["spec"]["suspend"] = json!(true);
    value["spec"]["workers"]["replicas"] = json!(5);
    let after = resolved(&serde_json::from_value(value).unwrap());
    for binary in [Binary::Ingest, Binary::Worker, Binary::Schema] {
        assert_eq!(reduce(&before, binary), reduce(&after, binary));
    }
}

#[test]
fn secrets_are_those_the_binary_needs() {
    let pipeline = pipeline(EXAMPLE);
    let shared = ["kafka-credentials", "postgres-credentials", "registry-credentials"];
    assert_eq!(Binary::Ingest.mounts(&pipeline).secrets, shared);
    let worker = Binary::Worker.mounts(&pipeline).secrets;
    assert_eq!(worker, [&["cassandra-credentials"], &shared[..]].concat());
}

#[test]
fn a_file_that_is_no_pipeline_says_what_is_wrong() {
    assert!(WorkerPipeline::read("kind: Pod\nmetadata: {name: x}\nspec: {}").is_err());
    let error = WorkerPipeline::read(&MINIMAL.replace("kind: UserPipeline", "kind: Pod"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("holds a Pod"), "{error}");
    let error = IngestPipeline::read(&MINIMAL.replace("source:", "sauce:")).unwrap_err().to_string();
    assert!(error.contains("source"), "{error}");
}

#[test]
fn a_pod_mounts_what_its_program_reads() {
    let mut value: Value = serde_yaml::from_str(EXAMPLE).unwrap();
    for block in ["kafka", "schemaRegistry", "cassandra"] {
        let block = value["spec"][block].as_object_mut().unwrap();
        block.remove("auth");
        block.remove("tls");
    }
    value["spec"]["postgres"]["tls"] =
        json!({"ca": {"configMapKeyRef": {"name": "databases", "key": "ca.crt"}}, "clientSecretRef": {"name": "postgres-client"}});
    value["spec"]["source"]["http"]["tls"] = json!({"ca": {"configMapKeyRef": {"name": "web", "key": "ca.crt"}}});
    let pipeline = resolved(&serde_json::from_value(value).unwrap());
    let ingest = Binary::Ingest.mounts(&pipeline);
    assert_eq!(ingest.secrets, ["postgres-client", "postgres-credentials"]);
    assert_eq!(ingest.config_maps, ["databases", "web"]);
    let worker = Binary::Worker.mounts(&pipeline);
    assert_eq!(worker.secrets, ["cassandra-credentials", "postgres-client", "postgres-credentials"]);
    assert_eq!(worker.config_maps, ["databases"]);
}

#[test]
fn plain_text_is_filled_in_only_where_a_pipeline_does_not_mention_tls() {
    let silent = pipeline(MINIMAL).spec;
    assert_eq!(silent.stores_without_tls(), ["spec.postgres.tls", "spec.kafka.tls"]);
    let silent = silent.with_plain_text_default();
    assert!(silent.stores_without_tls().is_empty());
    assert_eq!(serde_json::to_value(&silent.postgres.tls).unwrap(), json!({"mode": "Disable"}));
    let explicit = MINIMAL.replace("database: app,", "database: app, tls: {mode: VerifyCa},");
    let explicit = pipeline(&explicit).spec.with_plain_text_default();
    assert_eq!(serde_json::to_value(&explicit.postgres.tls).unwrap(), json!({"mode": "VerifyCa"}));
}

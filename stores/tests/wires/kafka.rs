//! Kafka.

use serde_json::{Value, json};
use userpipeline_api::Kafka;
use userpipeline_stores::{
    StoreError,
    error::{CERTIFICATE_EXPIRED, CERTIFICATE_REFUSED, CREDENTIALS_REFUSED, TLS_MISMATCH},
    kafka::{Connection, admin::Admin},
};

use crate::{
    certificates::{Authority, server_config},
    local::{Local, by_another_name},
    mounted::Mounted,
    refused::assert_refused,
    registry_server,
    spec::{login, verify, with_client},
};

async fn cluster_id(servers: &str, tls: &Value, auth: &Value, mounted: &Mounted) -> Result<String, StoreError> {
    let kafka: Kafka = serde_json::from_value(json!({"bootstrapServers": servers, "tls": tls, "auth": auth})).unwrap();
    let connection = Connection::new(&kafka.brokers(), &mounted.secrets());
    Admin::connect(&connection, "test").await?.cluster_id().await
}

fn auth(mechanism: &str) -> Value {
    json!({mechanism: login()})
}

#[tokio::test]
async fn a_broker_whose_certificate_is_refused_is_refused_before_a_client_is_made() {
    let (authority, other, mounted) = (Authority::new("ours"), Authority::new("other"), Mounted::new());
    mounted.ca(&authority.pem);
    for (issued, reason, says) in [
        (authority.issue(&["elsewhere"]), CERTIFICATE_REFUSED, "elsewhere"),
        (other.issue(&["localhost"]), CERTIFICATE_REFUSED, "key `ca.crt` of ConfigMap `ca`"),
        (authority.issue_expired(&["localhost"]), CERTIFICATE_EXPIRED, "has expired"),
    ] {
        let port = registry_server::serve(Some(server_config(&issued, None)), None).await;
        let servers = format!("localhost:{port}");
        let refused = cluster_id(&servers, &verify(), &Value::Null, &mounted).await;
        assert_refused(refused, reason, &[&format!("Kafka at {servers}"), says]);
    }
    let tls = server_config(&authority.issue(&["localhost"]), Some(&authority));
    let port = registry_server::serve(Some(tls), None).await;
    let refused = cluster_id(&format!("localhost:{port}"), &verify(), &Value::Null, &mounted).await;
    assert_refused(refused, CERTIFICATE_REFUSED, &["set spec.kafka.tls.clientSecretRef"]);
}

#[tokio::test]
#[ignore = "needs the local cluster"]
async fn a_real_broker_accepts_each_mechanism_and_refuses_a_wrong_password() {
    let (local, mounted) = (Local::from_env(), Mounted::new());
    mounted.ca(&local.authority.pem);
    mounted.login(&local.kafka);
    for mechanism in ["scramSha512", "scramSha256", "plain"] {
        let id = cluster_id(&local.kafka.address, &verify(), &auth(mechanism), &mounted).await;
        assert!(id.is_ok(), "{mechanism}: {id:?}");
    }
    mounted.secret("login", &[("password", "wrong")]);
    for mechanism in ["scramSha512", "plain"] {
        let refused = cluster_id(&local.kafka.address, &verify(), &auth(mechanism), &mounted).await;
        let field = format!("Secret `login` (spec.kafka.auth.{mechanism}.credentialsSecretRef)");
        assert_refused(refused, CREDENTIALS_REFUSED, &[&field]);
    }
}

#[tokio::test]
#[ignore = "needs the local cluster"]
async fn a_real_broker_and_a_client_refuse_each_others_certificates() {
    let (local, mounted) = (Local::from_env(), Mounted::new());
    mounted.login(&local.kafka);
    let stranger = Authority::new("other");
    mounted.ca(&stranger.pem);
    let refused = cluster_id(&local.kafka.address, &verify(), &auth("scramSha512"), &mounted).await;
    assert_refused(refused, CERTIFICATE_REFUSED, &["key `ca.crt` of ConfigMap `ca`"]);

    mounted.ca(&local.authority.pem);
    let elsewhere = cluster_id(&by_another_name(&local.kafka.address), &verify(), &auth("scramSha512"), &mounted).await;
    assert_refused(elsewhere, CERTIFICATE_REFUSED, &["`0.0.0.0`"]);
    let none = cluster_id(&local.kafka_mtls, &verify(), &Value::Null, &mounted).await;
    assert_refused(none, CERTIFICATE_REFUSED, &["set spec.kafka.tls.clientSecretRef"]);
    mounted.client(&stranger.issue(&["ann"]));
    let wrong = cluster_id(&local.kafka_mtls, &with_client(), &Value::Null, &mounted).await;
    assert_refused(wrong, CERTIFICATE_REFUSED, &["of Secret `client`"]);
    mounted.client(&local.authority.issue_expired(&["ann"]));
    let expired = cluster_id(&local.kafka_mtls, &with_client(), &Value::Null, &mounted).await;
    assert_refused(expired, CERTIFICATE_EXPIRED, &["of Secret `client`"]);
    mounted.client(&local.authority.issue(&["ann"]));
    let id = cluster_id(&local.kafka_mtls, &with_client(), &Value::Null, &mounted).await;
    assert!(id.is_ok(), "{id:?}");
}

#[tokio::test]
#[ignore = "needs the local cluster"]
async fn plain_text_to_a_real_broker_that_encrypts_is_a_mismatch() {
    let (local, mounted) = (Local::from_env(), Mounted::new());
    let refused = cluster_id(&local.kafka_mtls, &json!({"mode": "Disable"}), &Value::Null, &mounted).await;
    assert_refused(refused, TLS_MISMATCH, &["spec.kafka.tls"]);
}

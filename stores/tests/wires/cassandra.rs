//! Cassandra.

use serde_json::{Value, json};
use userpipeline_api::Consistency;
use userpipeline_stores::{
    StoreError,
    cassandra::Connection,
    error::{CERTIFICATE_EXPIRED, CERTIFICATE_REFUSED, CREDENTIALS_REFUSED, PIPELINE_INVALID, TLS_MISMATCH},
};

use crate::{
    certificates::{Authority, server_config},
    local::Local,
    mounted::Mounted,
    refused::assert_refused,
    registry_server,
    spec::{verify, with_client},
};

async fn connect(contact_point: &str, tls: &Value, mounted: &Mounted) -> Result<(), StoreError> {
    let cluster = json!({
        "contactPoints": [contact_point], "localDatacenter": "datacenter1",
        "credentialsSecretRef": {"name": "login"}, "tls": tls,
    });
    let cluster = serde_json::from_value(cluster).unwrap();
    Connection::new(&cluster, Consistency::One, &mounted.secrets())
        .connect()
        .await
        .map(drop)
}

fn verify_name(name: Option<&str>) -> Value {
    let mut tls = verify();
    if let Some(name) = name {
        tls["serverName"] = json!(name);
    }
    tls
}

#[tokio::test]
async fn a_node_whose_certificate_is_refused_is_refused_by_the_name_of_the_spec() {
    let (authority, other, mounted) = (Authority::new("ours"), Authority::new("other"), Mounted::new());
    mounted.ca(&authority.pem);
    for (issued, name, reason, says) in [
        (authority.issue(&["elsewhere"]), None, CERTIFICATE_REFUSED, "`localhost`"),
        (authority.issue(&["localhost"]), Some("nodes"), CERTIFICATE_REFUSED, "`nodes`"),
        (
            other.issue(&["localhost"]),
            None,
            CERTIFICATE_REFUSED,
            "key `ca.crt` of ConfigMap `ca`",
        ),
        (authority.issue_expired(&["localhost"]), None, CERTIFICATE_EXPIRED, "has expired"),
    ] {
        let port = registry_server::serve(Some(server_config(&issued, None)), None).await;
        let point = format!("localhost:{port}");
        let refused = connect(&point, &verify_name(name), &mounted).await;
        assert_refused(refused, reason, &[&format!("Cassandra at {point}"), says]);
    }
    let invalid = connect("localhost:1", &verify_name(Some("-")), &mounted).await;
    assert_refused(invalid, PIPELINE_INVALID, &["spec.cassandra.tls.serverName"]);
}

#[tokio::test]
async fn a_node_that_requires_a_client_certificate_and_a_client_without_one_refuse_each_other() {
    let (authority, mounted) = (Authority::new("ours"), Mounted::new());
    mounted.ca(&authority.pem);
    let tls = server_config(&authority.issue(&["localhost"]), Some(&authority));
    let point = format!("localhost:{}", registry_server::serve(Some(tls), None).await);
    let none = connect(&point, &verify(), &mounted).await;
    assert_refused(none, CERTIFICATE_REFUSED, &["set spec.cassandra.tls.clientSecretRef"]);
    mounted.client(&Authority::new("other").issue(&["ann"]));
    let wrong = connect(&point, &with_client(), &mounted).await;
    assert_refused(wrong, CERTIFICATE_REFUSED, &["of Secret `client`"]);
}

/// The local cluster requests no client certificate: see `make test-encryption` for a node that does.
#[tokio::test]
#[ignore = "needs the local cluster"]
async fn a_real_cluster_and_a_client_refuse_each_other_by_reason() {
    let (local, mounted) = (Local::from_env(), Mounted::new());
    let point = local.cassandra.address.as_str();
    mounted.login(&local.cassandra);
    mounted.ca(&local.authority.pem);
    assert_eq!(connect(point, &verify(), &mounted).await, Ok(()));

    let refused = connect(point, &verify_name(Some("nodes")), &mounted).await;
    assert_refused(refused, CERTIFICATE_REFUSED, &["`nodes`", "spec.cassandra.tls.serverName"]);

    mounted.ca(&Authority::new("other").pem);
    let refused = connect(point, &verify(), &mounted).await;
    assert_refused(refused, CERTIFICATE_REFUSED, &["key `ca.crt` of ConfigMap `ca`"]);

    mounted.ca(&local.authority.pem);
    mounted.secret("login", &[("password", "wrong")]);
    let refused = connect(point, &verify(), &mounted).await;
    assert_refused(
        refused,
        CREDENTIALS_REFUSED,
        &["Secret `login` (spec.cassandra.credentialsSecretRef)"],
    );

    let plain = connect(point, &json!({"mode": "Disable"}), &mounted).await;
    assert_refused(plain, TLS_MISMATCH, &["spec.cassandra.tls"]);
}

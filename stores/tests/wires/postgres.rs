//! PostgreSQL.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use userpipeline_stores::{
    StoreError,
    error::{CERTIFICATE_EXPIRED, CERTIFICATE_REFUSED, CREDENTIALS_REFUSED, PIPELINE_INVALID, TLS_MISMATCH},
    postgres::Connection,
};

use crate::{
    certificates::{Authority, server_config},
    local::{Local, by_another_name},
    mounted::Mounted,
    postgres_server::serve,
    refused::assert_refused,
    spec::{verify, with_client},
};

fn connection(port: u16, tls: &Value, mounted: &Mounted) -> Connection {
    let server = json!({
        "host": "localhost", "port": port, "database": "users",
        "credentialsSecretRef": {"name": "login"}, "tls": tls,
    });
    Connection::new(&serde_json::from_value(server).unwrap(), &mounted.secrets())
}

async fn connect(port: u16, tls: &Value, mounted: &Mounted) -> Result<(), StoreError> {
    connection(port, tls, mounted).connect("test").await.map(drop)
}

fn in_mode(mode: &str, mut tls: Value) -> Value {
    tls["mode"] = json!(mode);
    tls
}

#[tokio::test]
async fn a_server_of_a_known_authority_is_accepted_by_its_name_and_another_name_only_by_verify_ca() {
    let (authority, mounted) = (Authority::new("ours"), Mounted::new());
    mounted.ca(&authority.pem);
    let named = serve(Some(server_config(&authority.issue(&["localhost"]), None))).await;
    assert_eq!(connect(named, &verify(), &mounted).await, Ok(()));
    assert_eq!(connect(named, &in_mode("VerifyCa", verify()), &mounted).await, Ok(()));

    let other = serve(Some(server_config(&authority.issue(&["other"]), None))).await;
    let refused = connect(other, &verify(), &mounted).await;
    assert_refused(
        refused,
        CERTIFICATE_REFUSED,
        &["PostgreSQL at localhost", "other", "spec.postgres.host"],
    );
    assert_eq!(connect(other, &in_mode("VerifyCa", verify()), &mounted).await, Ok(()));
}

#[tokio::test]
async fn a_server_of_another_authority_or_with_an_expired_certificate_is_refused_in_each_mode() {
    let (authority, other, mounted) = (Authority::new("ours"), Authority::new("other"), Mounted::new());
    // The same name, and another key.
    let impostor = Authority::new("ours");
    mounted.ca(&authority.pem);
    for mode in ["VerifyFull", "VerifyCa"] {
        for stranger in [&other, &impostor] {
            let port = serve(Some(server_config(&stranger.issue(&["localhost"]), None))).await;
            let refused = connect(port, &in_mode(mode, verify()), &mounted).await;
            assert_refused(
                refused,
                CERTIFICATE_REFUSED,
                &["key `ca.crt` of ConfigMap `ca` (spec.postgres.tls.ca.configMapKeyRef)"],
            );
        }
        let port = serve(Some(server_config(&authority.issue_expired(&["localhost"]), None))).await;
        let refused = connect(port, &in_mode(mode, verify()), &mounted).await;
        assert_refused(refused, CERTIFICATE_EXPIRED, &["the server's certificate has expired"]);
    }
}

#[tokio::test]
async fn without_a_ca_only_public_authorities_are_accepted() {
    let (authority, mounted) = (Authority::new("ours"), Mounted::new());
    let port = serve(Some(server_config(&authority.issue(&["localhost"]), None))).await;
    for tls in [Value::Null, json!({})] {
        let refused = connect(port, &tls, &mounted).await;
        assert_refused(refused, CERTIFICATE_REFUSED, &["spec.postgres.tls.ca is not set"]);
    }
}

#[tokio::test]
async fn a_server_without_tls_is_refused_unless_plain_text_is_requested() {
    let mounted = Mounted::new();
    mounted.ca(&Authority::new("ours").pem);
    let port = serve(None).await;
    for mode in ["VerifyFull", "VerifyCa"] {
        let refused = connect(port, &in_mode(mode, verify()), &mounted).await;
        assert_refused(refused, TLS_MISMATCH, &["spec.postgres.tls: {mode: Disable}"]);
    }
    assert_refused(connect(port, &Value::Null, &mounted).await, TLS_MISMATCH, &[]);
}

#[tokio::test]
async fn a_client_certificate_is_sent_and_its_refusal_names_its_secret() {
    let (authority, other, mounted) = (Authority::new("ours"), Authority::new("other"), Mounted::new());
    mounted.ca(&authority.pem);
    let port = serve(Some(server_config(&authority.issue(&["localhost"]), Some(&authority)))).await;

    let refused = connect(port, &verify(), &mounted).await;
    assert_refused(refused, CERTIFICATE_REFUSED, &["set spec.postgres.tls.clientSecretRef"]);

    mounted.client(&other.issue(&["ann"]));
    let refused = connect(port, &with_client(), &mounted).await;
    assert_refused(
        refused,
        CERTIFICATE_REFUSED,
        &["of Secret `client` (spec.postgres.tls.clientSecretRef)"],
    );

    mounted.client(&authority.issue_expired(&["ann"]));
    let refused = connect(port, &with_client(), &mounted).await;
    assert_refused(refused, CERTIFICATE_EXPIRED, &["Secret `client`", "2001-01-01"]);

    let (first, second) = (authority.issue(&["ann"]), authority.issue(&["ann"]));
    mounted.secret("client", &[("tls.crt", &first.certificate), ("tls.key", &second.key)]);
    let refused = connect(port, &with_client(), &mounted).await;
    assert_refused(refused, PIPELINE_INVALID, &["Secret `client`"]);

    // Rotated to a good one: the next connection uses it.
    mounted.client(&first);
    assert_eq!(connect(port, &with_client(), &mounted).await, Ok(()));
}

#[tokio::test]
async fn a_connection_is_outdated_when_one_of_its_files_changes() {
    let (authority, mounted) = (Authority::new("ours"), Mounted::new());
    mounted.ca(&authority.pem);
    mounted.client(&authority.issue(&["ann"]));
    let port = serve(Some(server_config(&authority.issue(&["localhost"]), None))).await;
    let connection = connection(port, &with_client(), &mounted);
    let (_client, mut opened_with) = connection.open("test").await.unwrap();
    assert!(!connection.wire().is_rotated(&opened_with));
    // 4096-01-01, the end of both certificates.
    assert_eq!(connection.wire().read().unwrap().not_after(), Some(67_090_118_400));

    let changes: [&dyn Fn(); 3] = [
        &|| mounted.ca(&format!("{}{}", authority.pem, Authority::new("next").pem)),
        &|| mounted.client(&authority.issue(&["ann"])),
        &|| mounted.secret("login", &[("password", "two")]),
    ];
    for change in changes {
        change();
        // Files are compared once a second.
        let noticed = async {
            while !connection.wire().is_rotated(&opened_with) {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(Duration::from_secs(10), noticed).await.expect("the change is noticed");
        opened_with = connection.open("test").await.unwrap().1;
        assert!(!connection.wire().is_rotated(&opened_with));
    }
}

#[tokio::test]
#[ignore = "needs the local cluster"]
async fn a_real_server_and_a_client_refuse_each_other_by_reason() {
    let (local, mounted) = (Local::from_env(), Mounted::new());
    mounted.login(&local.postgres);
    mounted.ca(&local.authority.pem);
    let server_at = |address: &str, tls: Value| {
        let (host, port) = address.rsplit_once(':').unwrap();
        let server = json!({
            "host": host, "port": port.parse::<u16>().unwrap(), "database": "userpipeline",
            "credentialsSecretRef": {"name": "login"}, "tls": tls,
        });
        Connection::new(&serde_json::from_value(server).unwrap(), &mounted.secrets())
    };
    let server = |tls: Value| server_at(&local.postgres.address, tls);
    let client = server(verify()).connect("test").await.unwrap();
    let row = client
        .query_one("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", &[])
        .await
        .unwrap();
    assert!(row.get::<_, bool>(0));

    let open = async |tls: Value| server(tls).connect("test").await.map(drop);
    let plain = open(json!({"mode": "Disable"})).await;
    assert_refused(plain, TLS_MISMATCH, &["spec.postgres.tls"]);

    let elsewhere = server_at(&by_another_name(&local.postgres.address), verify());
    assert_refused(elsewhere.connect("test").await.map(drop), CERTIFICATE_REFUSED, &["`0.0.0.0`"]);

    // The role that needs a client certificate with its name.
    mounted.login(&local.postgres_certificate);
    assert_refused(
        open(verify()).await,
        CERTIFICATE_REFUSED,
        &["set spec.postgres.tls.clientSecretRef"],
    );
    let stranger = Authority::new("other");
    mounted.client(&stranger.issue_to(&local.postgres_certificate.username));
    assert_refused(open(with_client()).await, CERTIFICATE_REFUSED, &["Secret `client`"]);
    mounted.client(&local.authority.issue_expired(&[&local.postgres_certificate.username]));
    assert_refused(open(with_client()).await, CERTIFICATE_EXPIRED, &["Secret `client`"]);
    mounted.client(&local.authority.issue_to(&local.postgres_certificate.username));
    assert_eq!(open(with_client()).await, Ok(()));
    mounted.secret("login", &[("password", "wrong")]);
    assert_refused(
        open(with_client()).await,
        CREDENTIALS_REFUSED,
        &["Secret `login` (spec.postgres.credentialsSecretRef)"],
    );
    mounted.ca(&stranger.pem);
    assert_refused(
        open(in_mode("VerifyCa", verify())).await,
        CERTIFICATE_REFUSED,
        &["key `ca.crt` of ConfigMap `ca`"],
    );
}

//! The schema registry.

use serde_json::{Value, json};
use userpipeline_stores::{
    StoreError,
    error::{
        CERTIFICATE_EXPIRED, CERTIFICATE_REFUSED, CREDENTIALS_MISSING, CREDENTIALS_REFUSED, PIPELINE_INVALID, REGISTRY_FAILED, TLS_MISMATCH,
    },
    schema_registry::{Connection, SchemaRegistry},
};

use crate::{
    certificates::{Authority, server_config},
    local::{Local, by_another_name},
    mounted::Mounted,
    refused::assert_refused,
    registry_server::serve,
    spec::{login, verify, with_client},
};

fn registry(scheme: &str, port: u16, tls: &Value, auth: &Value, mounted: &Mounted) -> Result<SchemaRegistry, StoreError> {
    registry_at(&format!("{scheme}://localhost:{port}/apis"), tls, auth, mounted)
}

fn registry_at(url: &str, tls: &Value, auth: &Value, mounted: &Mounted) -> Result<SchemaRegistry, StoreError> {
    let mut registry = json!({"url": url});
    for (field, value) in [("tls", tls), ("auth", auth)] {
        if !value.is_null() {
            registry[field] = value.clone();
        }
    }
    Connection::new(&serde_json::from_value(registry).unwrap(), &mounted.secrets()).connect()
}

async fn look_up(port: u16, tls: &Value, auth: &Value, mounted: &Mounted) -> Result<Option<String>, StoreError> {
    registry("https", port, tls, auth, mounted)?.schema(7).await
}

#[tokio::test]
async fn a_server_is_accepted_by_its_name_its_authority_and_its_dates() {
    let (authority, other, mounted) = (Authority::new("ours"), Authority::new("other"), Mounted::new());
    mounted.ca(&authority.pem);
    for (issued, refused) in [
        (authority.issue(&["localhost"]), None),
        (
            authority.issue(&["elsewhere"]),
            Some((CERTIFICATE_REFUSED, "spec.schemaRegistry.url")),
        ),
        (
            other.issue(&["localhost"]),
            Some((CERTIFICATE_REFUSED, "key `ca.crt` of ConfigMap `ca`")),
        ),
        (authority.issue_expired(&["localhost"]), Some((CERTIFICATE_EXPIRED, "has expired"))),
    ] {
        let port = serve(Some(server_config(&issued, None)), None).await;
        let found = look_up(port, &verify(), &Value::Null, &mounted).await;
        match refused {
            None => assert!(found.unwrap().is_some()),
            Some((reason, says)) => assert_refused(found, reason, &["the schema registry at https://localhost", says]),
        }
    }
}

#[tokio::test]
async fn a_server_without_tls_is_refused() {
    let mounted = Mounted::new();
    mounted.ca(&Authority::new("ours").pem);
    let port = serve(None, None).await;
    let found = look_up(port, &verify(), &Value::Null, &mounted).await;
    assert_refused(found, TLS_MISMATCH, &["an http:// address in spec.schemaRegistry.url"]);
}

#[tokio::test]
async fn a_rotated_client_certificate_is_used_by_the_same_client() {
    let (authority, other, mounted) = (Authority::new("ours"), Authority::new("other"), Mounted::new());
    mounted.ca(&authority.pem);
    let port = serve(Some(server_config(&authority.issue(&["localhost"]), Some(&authority))), None).await;
    let none = look_up(port, &verify(), &Value::Null, &mounted).await;
    assert_refused(none, CERTIFICATE_REFUSED, &["set spec.schemaRegistry.tls.clientSecretRef"]);

    let missing = look_up(port, &with_client(), &Value::Null, &mounted).await;
    assert_refused(missing, CREDENTIALS_MISSING, &["Secret `client`"]);

    mounted.client(&other.issue(&["ann"]));
    let registry = registry("https", port, &with_client(), &Value::Null, &mounted).unwrap();
    assert_refused(registry.schema(7).await, CERTIFICATE_REFUSED, &["Secret `client`"]);
    mounted.client(&authority.issue(&["ann"]));
    assert!(registry.schema(7).await.unwrap().is_some());
}

#[tokio::test]
async fn credentials_are_read_for_each_request_and_sent_only_encrypted() {
    let (authority, mounted) = (Authority::new("ours"), Mounted::new());
    mounted.ca(&authority.pem);
    let tls = server_config(&authority.issue(&["localhost"]), None);
    // ann:two
    let by_password = serve(Some(tls.clone()), Some("Basic YW5uOnR3bw==")).await;
    let basic = json!({"basic": login()});
    let client = registry("https", by_password, &verify(), &basic, &mounted).unwrap();
    assert_refused(
        client.schema(7).await,
        CREDENTIALS_REFUSED,
        &["Secret `login` (spec.schemaRegistry.auth.basic.credentialsSecretRef)"],
    );
    mounted.secret("login", &[("password", "two")]);
    assert!(client.schema(7).await.unwrap().is_some());

    let by_token = serve(Some(tls), Some("Bearer t0ken")).await;
    mounted.secret("api", &[("token", "t0ken\n")]);
    let bearer = json!({"bearer": {"secretKeyRef": {"name": "api", "key": "token"}}});
    assert!(look_up(by_token, &verify(), &bearer, &mounted).await.unwrap().is_some());
    assert_refused(
        look_up(by_token, &verify(), &Value::Null, &mounted).await,
        CREDENTIALS_REFUSED,
        &["spec.schemaRegistry.auth is not set"],
    );
    mounted.secret("api", &[("token", "two\nlines")]);
    let invalid = look_up(by_token, &verify(), &bearer, &mounted).await.unwrap_err();
    assert_eq!(invalid.reason, PIPELINE_INVALID);
    assert!(!invalid.message.contains("lines"), "{invalid}");

    let plain = serve(None, None).await;
    let refused = registry("http", plain, &Value::Null, &basic, &mounted);
    assert_refused(refused, PIPELINE_INVALID, &["spec.schemaRegistry.auth"]);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (authority, mounted) = (Authority::new("ours"), Mounted::new());
    mounted.ca(&authority.pem);
    let port = serve(Some(server_config(&authority.issue(&["localhost"]), None)), None).await;
    let client = registry("https", port, &verify(), &Value::Null, &mounted).unwrap();
    assert_refused(client.schema(3).await, REGISTRY_FAILED, &["redirects are not followed"]);
}

#[tokio::test]
#[ignore = "needs the local cluster"]
async fn a_real_registry_and_a_client_refuse_each_other_by_reason() {
    let (local, mounted) = (Local::from_env(), Mounted::new());
    mounted.login(&local.registry);
    mounted.ca(&local.authority.pem);
    let basic = json!({"basic": login()});
    let look_up = async |url: &str, tls: &Value, auth: &Value| registry_at(url, tls, auth, &mounted)?.latest("no-such-subject").await;
    assert_eq!(look_up(&local.registry.address, &verify(), &basic).await, Ok(None));
    assert_refused(
        look_up(&local.registry.address, &verify(), &Value::Null).await,
        CREDENTIALS_REFUSED,
        &["spec.schemaRegistry.auth is not set"],
    );
    let none = look_up(&local.registry_mtls, &verify(), &Value::Null).await;
    assert_refused(none, CERTIFICATE_REFUSED, &["set spec.schemaRegistry.tls.clientSecretRef"]);
    let stranger = Authority::new("other");
    mounted.client(&stranger.issue(&["ann"]));
    let wrong = look_up(&local.registry_mtls, &with_client(), &Value::Null).await;
    assert_refused(wrong, CERTIFICATE_REFUSED, &["of Secret `client`"]);
    mounted.client(&local.authority.issue_expired(&["ann"]));
    let expired = look_up(&local.registry_mtls, &with_client(), &Value::Null).await;
    assert_refused(expired, CERTIFICATE_EXPIRED, &["of Secret `client`"]);
    mounted.client(&local.authority.issue(&["ann"]));
    assert_eq!(look_up(&local.registry_mtls, &with_client(), &Value::Null).await, Ok(None));

    let elsewhere = look_up(&by_another_name(&local.registry.address), &verify(), &basic).await;
    assert_refused(elsewhere, CERTIFICATE_REFUSED, &["`0.0.0.0`"]);
    mounted.secret("login", &[("password", "wrong")]);
    let refused = look_up(&local.registry.address, &verify(), &basic).await;
    assert_refused(refused, CREDENTIALS_REFUSED, &["Secret `login`"]);
    mounted.ca(&stranger.pem);
    let refused = look_up(&local.registry.address, &verify(), &basic).await;
    assert_refused(refused, CERTIFICATE_REFUSED, &["key `ca.crt` of ConfigMap `ca`"]);
    let plain = local.registry.address.replace("https://", "http://");
    assert_refused(
        look_up(&plain, &Value::Null, &Value::Null).await,
        TLS_MISMATCH,
        &["use an https address"],
    );
}

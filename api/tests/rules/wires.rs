//! TLS and authentication of connections.

use serde_json::{Value, json};

use crate::{assert_refused, refusal, with};

#[test]
fn tls_of_postgresql_takes_certificates_only_where_it_verifies() {
    let ca = json!({"configMapKeyRef": {"name": "ca", "key": "ca.crt"}});
    let from_secret = json!({"secretKeyRef": {"name": "ca", "key": "ca.crt"}});
    let both = json!({"configMapKeyRef": {"name": "ca", "key": "ca.crt"}, "secretKeyRef": {"name": "ca", "key": "ca.crt"}});
    let tls = |value| with("spec.postgres.tls", value);
    for accepted in [
        json!({}),
        json!({"mode": "Disable"}),
        json!({"mode": "VerifyCa", "ca": from_secret}),
        json!({"ca": ca, "clientSecretRef": {"name": "client"}}),
    ] {
        assert_eq!(refusal(tls(accepted.clone())), None, "{accepted}");
    }
    assert_refused([
        (tls(json!({"mode": "Disable", "ca": ca})), "are not allowed with mode Disable"),
        (
            tls(json!({"mode": "Disable", "clientSecretRef": {"name": "client"}})),
            "are not allowed with mode Disable",
        ),
        (
            tls(json!({"ca": both})),
            "ca must have exactly one of configMapKeyRef and secretKeyRef",
        ),
        (
            tls(json!({"ca": {}})),
            "ca must have exactly one of configMapKeyRef and secretKeyRef",
        ),
        (
            with("spec.source.http.tls", json!({"ca": both})),
            "ca must have exactly one of configMapKeyRef and secretKeyRef",
        ),
    ]);
}

#[test]
fn a_registry_receives_credentials_and_certificates_only_over_https() {
    let registry = |scheme: &str, field: &str, value: Value| {
        let mut registry = json!({"url": format!("{scheme}://registry:8080")});
        registry[field] = value;
        with("spec.schemaRegistry", registry)
    };
    let basic = json!({"basic": {"credentialsSecretRef": {"name": "login"}}});
    let bearer = json!({"bearer": {"secretKeyRef": {"name": "login", "key": "token"}}});
    let tls = json!({"clientSecretRef": {"name": "client"}});
    for (field, value) in [("auth", &basic), ("auth", &bearer), ("tls", &tls)] {
        assert_eq!(refusal(registry("https", field, value.clone())), None, "{value}");
    }
    let one = "spec.schemaRegistry.auth must have exactly one of basic and bearer";
    assert_refused([
        (registry("http", "auth", basic.clone()), "credentials are not sent in plain text"),
        (registry("http", "tls", tls), "spec.schemaRegistry.tls needs an https address"),
        (
            registry("https", "auth", json!({"basic": basic["basic"], "bearer": bearer["bearer"]})),
            one,
        ),
        (registry("https", "auth", json!({})), one),
    ]);
}

#[test]
fn kafka_takes_one_mechanism_and_plain_only_with_explicit_tls() {
    let login = json!({"credentialsSecretRef": {"name": "login"}});
    let kafka = |tls: Option<Value>, auth: Value| {
        let mut kafka = json!({"bootstrapServers": "kafka:9093", "auth": auth});
        if let Some(tls) = tls {
            kafka["tls"] = tls;
        }
        with("spec.kafka", kafka)
    };
    for (tls, auth) in [
        (None, json!({"scramSha512": login})),
        (Some(json!({"mode": "Disable"})), json!({"scramSha256": login})),
        (Some(json!({})), json!({"plain": login})),
    ] {
        assert_eq!(refusal(kafka(tls.clone(), auth.clone())), None, "{tls:?} {auth}");
    }
    let one = "spec.kafka.auth must have exactly one of scramSha512, scramSha256, plain and strimziUser";
    let plain = "spec.kafka.auth.plain needs spec.kafka.tls with mode VerifyFull";
    assert_refused([
        (kafka(None, json!({})), one),
        (kafka(Some(json!({})), json!({"scramSha512": login, "plain": login})), one),
        // A pipeline without `tls` may be one of those that continue in plain text.
        (kafka(None, json!({"plain": login})), plain),
        (kafka(Some(json!({"mode": "Disable"})), json!({"plain": login})), plain),
        (
            with("spec.kafka.tls", json!({"mode": "Disable", "clientSecretRef": {"name": "client"}})),
            "are not allowed with mode Disable",
        ),
    ]);
}

#[test]
fn a_server_name_needs_verification() {
    let tls = |value| with("spec.cassandra.tls", value);
    assert_eq!(refusal(tls(json!({"serverName": "cassandra.data.svc"}))), None);
    assert_refused([
        (
            tls(json!({"mode": "Disable", "serverName": "cassandra"})),
            "are not allowed with mode Disable",
        ),
        (tls(json!({"serverName": "a b"})), "must be a host name or an IP address"),
    ]);
}

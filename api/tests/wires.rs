//! The rules of TLS and authentication, evaluated from the CRD's own CEL.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use userpipeline_api::UserPipeline;

/// The example with one value set, at a path of dots.
fn with(path: &str, value: Value) -> Value {
    let mut resource: Value = serde_yaml::from_str(include_str!("../../examples/users.yaml")).unwrap();
    let mut at = &mut resource;
    for part in path.split('.') {
        at = &mut at[part];
    }
    *at = value;
    resource
}

fn refusal(resource: Value) -> Option<String> {
    let resource: UserPipeline = serde_json::from_value(resource).unwrap();
    resource.validate_cel().err().map(|errors| errors.to_string())
}

fn assert_refused<const N: usize>(specs: [(Value, &str); N]) {
    for (resource, says) in specs {
        let refused = refusal(resource).unwrap_or_default();
        assert!(refused.contains(says), "{says}: {refused}");
    }
}

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
        (tls(json!({"mode": "Disable", "ca": ca})), "do not go with the mode Disable"),
        (
            tls(json!({"mode": "Disable", "clientSecretRef": {"name": "client"}})),
            "do not go with the mode Disable",
        ),
        (tls(json!({"ca": both})), "ca takes exactly one of configMapKeyRef and secretKeyRef"),
        (tls(json!({"ca": {}})), "ca takes exactly one of configMapKeyRef and secretKeyRef"),
        (
            with("spec.source.http.tls", json!({"ca": both})),
            "ca takes exactly one of configMapKeyRef and secretKeyRef",
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
    let one = "spec.schemaRegistry.auth takes exactly one of basic and bearer";
    assert_refused([
        (registry("http", "auth", basic.clone()), "credentials are not sent in plain text"),
        (
            registry("http", "tls", tls),
            "spec.schemaRegistry.tls goes with an https address only",
        ),
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
    let one = "spec.kafka.auth takes exactly one of scramSha512, scramSha256 and plain";
    let plain = "spec.kafka.auth.plain sends the password itself";
    assert_refused([
        (kafka(None, json!({})), one),
        (kafka(Some(json!({})), json!({"scramSha512": login, "plain": login})), one),
        // A pipeline without `tls` may be one of those that continue in plain text.
        (kafka(None, json!({"plain": login})), plain),
        (kafka(Some(json!({"mode": "Disable"})), json!({"plain": login})), plain),
        (
            with("spec.kafka.tls", json!({"mode": "Disable", "clientSecretRef": {"name": "client"}})),
            "do not go with the mode Disable",
        ),
    ]);
}

#[test]
fn a_server_name_goes_with_verification() {
    let tls = |value| with("spec.cassandra.tls", value);
    assert_eq!(refusal(tls(json!({"serverName": "cassandra.data.svc"}))), None);
    assert_refused([
        (
            tls(json!({"mode": "Disable", "serverName": "cassandra"})),
            "do not go with the mode Disable",
        ),
        (tls(json!({"serverName": "a b"})), "must be a host name or an IP address"),
    ]);
}

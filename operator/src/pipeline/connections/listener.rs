//! The Kafka block of a connection to a listener of Strimzi, completed with what the operator found of it. Pure.

use userpipeline_api::{
    CaSource, Certificates, ConfigMapKeyRef, KafkaListenerStatus, KafkaTls, TlsMode, UserAuthentication, UserPipelineConnectionSpec, names,
};

/// The key of the ConfigMap with the authorities.
pub const AUTHORITIES_KEY: &str = "ca.crt";

/// The spec of the connection `name` with brokers, encryption and authentication of its listener, or why pipelines cannot use it yet.
pub fn with_listener(
    name: &str,
    mut spec: UserPipelineConnectionSpec,
    found: Option<&KafkaListenerStatus>,
) -> Result<UserPipelineConnectionSpec, String> {
    let Some(kafka) = &mut spec.kafka else { return Ok(spec) };
    let Some(listener) = &kafka.strimzi else { return Ok(spec) };
    let place = format!(
        "listener {} of Kafka cluster {}/{}",
        listener.listener, listener.namespace, listener.cluster
    );
    // That of an earlier spec may still be in the status.
    let Some(found) = found.filter(|found| found.strimzi == *listener) else {
        return Err(format!(
            "spec.kafka.strimzi: {place} is not known yet: see the condition Accepted of the connection"
        ));
    };
    kafka.bootstrap_servers = Some(found.bootstrap_servers.clone());
    kafka.tls = Some(tls(name, found.tls));
    if let Some(user) = kafka.auth.as_mut().and_then(|auth| auth.strimzi_user.as_mut()) {
        user.authentication = found.authentication.as_deref().and_then(UserAuthentication::of);
        if user.authentication.is_none() {
            return Err(format!(
                "spec.kafka.auth.strimziUser: {place} has neither scram-sha-512 nor tls authentication"
            ));
        }
    }
    Ok(spec)
}

fn tls(connection: &str, is_encrypted: bool) -> KafkaTls {
    if !is_encrypted {
        return KafkaTls {
            mode: TlsMode::Disable,
            ..KafkaTls::default()
        };
    }
    let authorities = CaSource {
        config_map_key_ref: Some(ConfigMapKeyRef {
            name: names::kafka_authorities(connection),
            key: AUTHORITIES_KEY.to_owned(),
        }),
        secret_key_ref: None,
    };
    KafkaTls {
        mode: TlsMode::VerifyFull,
        certificates: Certificates {
            ca: Some(authorities),
            client_secret_ref: None,
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn listener(name: &str) -> Value {
        json!({"cluster": "events", "namespace": "kafka", "listener": name})
    }

    fn completed(kafka: &Value, found: &Value) -> Result<Value, String> {
        let spec = serde_json::from_value(json!({"kafka": kafka})).unwrap();
        let found: Option<KafkaListenerStatus> = serde_json::from_value(found.clone()).unwrap();
        with_listener("stores", spec, found.as_ref()).map(|spec| serde_json::to_value(spec.kafka).unwrap())
    }

    #[test]
    fn the_listener_decides_about_address_encryption_and_authentication() {
        let found = |tls: bool, authentication: Option<&str>| json!({"strimzi": listener("tls"), "bootstrapServers": "b:9093", "tls": tls, "authentication": authentication});
        let encrypted = json!({"mode": "VerifyFull", "ca": {"configMapKeyRef": {"name": "stores-kafka-ca", "key": "ca.crt"}}});
        for (auth, found, expected_tls, expected_auth) in [
            (Value::Null, found(true, None), encrypted.clone(), Value::Null),
            (Value::Null, found(false, None), json!({"mode": "Disable"}), Value::Null),
            (
                json!({"strimziUser": {}}),
                found(true, Some("tls")),
                encrypted.clone(),
                json!({"strimziUser": {"authentication": "tls"}}),
            ),
            (
                json!({"strimziUser": {"secretRef": {"name": "shop"}}}),
                found(true, Some("scram-sha-512")),
                encrypted,
                json!({"strimziUser": {"secretRef": {"name": "shop"}, "authentication": "scram-sha-512"}}),
            ),
        ] {
            let kafka = completed(&json!({"strimzi": listener("tls"), "auth": auth}), &found).unwrap();
            assert_eq!(
                (&kafka["bootstrapServers"], &kafka["tls"], &kafka["auth"]),
                (&json!("b:9093"), &expected_tls, &expected_auth)
            );
        }
        let own = json!({"bootstrapServers": "own:9092"});
        assert_eq!(completed(&own, &Value::Null).unwrap(), own);
    }

    #[test]
    fn without_its_listener_a_connection_cannot_be_used() {
        let found = |name: &str| json!({"strimzi": listener(name), "bootstrapServers": "b:9093", "tls": true});
        let user = json!({"strimzi": listener("tls"), "auth": {"strimziUser": {}}});
        for (kafka, found, says) in [
            (json!({"strimzi": listener("tls")}), Value::Null, "is not known yet"),
            (json!({"strimzi": listener("tls")}), found("plain"), "is not known yet"),
            (user, found("tls"), "has neither scram-sha-512 nor tls authentication"),
        ] {
            let why = completed(&kafka, &found).unwrap_err();
            assert!(
                why.contains("listener tls of Kafka cluster kafka/events") && why.contains(says),
                "{why}"
            );
        }
    }
}

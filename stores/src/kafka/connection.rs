//! How to reach a Kafka cluster.

use std::time::Duration;

use rdkafka::ClientConfig;
use tokio::{net::TcpStream, time::timeout};
use userpipeline_api::{Brokers, KafkaAuth, KafkaLogin, SaslMechanism, TlsMode};

use super::refusal::{Refusal, Refusals, Reporter};
use crate::{
    Secrets, StoreError,
    error::{CREDENTIALS_REFUSED, KAFKA_FAILED, KAFKA_UNREACHABLE, PIPELINE_INVALID, TLS_MISMATCH},
    wire::{
        Fingerprint, Material, TlsProblem, Verification, Wire, client_config,
        handshake::{self, Opening, TlsSession},
    },
};

const FIELD: &str = "spec.kafka";
/// Until a broker accepts a connection.
const REACH: Duration = Duration::from_secs(10);

/// The brokers of a cluster, how to encrypt and how to authenticate. Mounted files are read for each client: librdkafka reads
/// none of them again.
#[derive(Clone, Debug)]
pub struct Connection {
    brokers: Brokers,
    wire: Wire,
    /// What the clients of this connection reported.
    refusals: Refusals,
}

impl Connection {
    pub fn new(brokers: &Brokers, secrets: &Secrets) -> Self {
        let tls = brokers.tls.as_ref();
        let mut wire = Wire::new(FIELD, secrets).with_certificates(tls.map(|tls| &tls.certificates));
        if let Some(auth) = &brokers.auth {
            let field = format!("auth.{}", auth.secret_field());
            wire = match auth.login() {
                Some(KafkaLogin::Password {
                    secret,
                    username: Some(username),
                    ..
                }) => wire.with_credentials(secret, &field).with_username(username),
                Some(KafkaLogin::Password { secret, .. }) => wire.with_credentials(secret, &field),
                Some(KafkaLogin::Certificate { secret }) => wire.with_user_certificate(secret, &field),
                Some(KafkaLogin::Unresolved) | None => wire,
            };
        }
        Self {
            brokers: brokers.clone(),
            wire,
            refusals: Refusals::default(),
        }
    }

    /// Brokers without encryption and authentication.
    #[cfg(test)]
    pub(super) fn plain_text(bootstrap_servers: &str) -> Self {
        let brokers = Brokers {
            bootstrap_servers: bootstrap_servers.to_owned(),
            tls: Some(userpipeline_api::KafkaTls {
                mode: TlsMode::Disable,
                ..Default::default()
            }),
            auth: None,
        };
        Self::new(&brokers, &Secrets::in_dir(""))
    }

    /// The mounted files that it reads.
    pub const fn wire(&self) -> &Wire {
        &self.wire
    }

    /// For the context of a client, so that [`Self::locate`] knows what it reports.
    pub fn reporter(&self) -> Reporter {
        Reporter::new(self.refusals.clone())
    }

    /// The settings that all clients share.
    pub fn client_config(&self, client_id: &str) -> Result<ClientConfig, StoreError> {
        self.open_config(client_id).map(|(config, _)| config)
    }

    /// As [`Self::client_config`], with the fingerprint of the files that it contains.
    pub fn open_config(&self, client_id: &str) -> Result<(ClientConfig, Fingerprint), StoreError> {
        let material = self.wire.read()?;
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers.bootstrap_servers)
            .set("client.id", client_id)
            // A broker that comes back is found soon, even after a long outage.
            .set("reconnect.backoff.ms", "100")
            .set("reconnect.backoff.max.ms", "5000")
            // The address of a deleted pod never answers, not even with a reset.
            .set("socket.connection.setup.timeout.ms", "5000")
            .set("socket.keepalive.enable", "true");
        self.secure(&mut config, &material)?;
        Ok((config, material.fingerprint()))
    }

    fn secure(&self, config: &mut ClientConfig, material: &Material) -> Result<(), StoreError> {
        let mechanism = match self.brokers.auth.as_ref().and_then(KafkaAuth::login) {
            Some(KafkaLogin::Password { mechanism, .. }) => Some(mechanism),
            Some(KafkaLogin::Certificate { .. }) if !self.is_encrypted() => {
                let message = "spec.kafka.auth.strimziUser: a client certificate needs a listener with TLS";
                return Err(StoreError::configuration(PIPELINE_INVALID, message));
            }
            Some(KafkaLogin::Unresolved) => {
                let message = "spec.kafka.auth.strimziUser needs secretRef and authentication: only the operator can find them";
                return Err(StoreError::configuration(PIPELINE_INVALID, message));
            }
            Some(KafkaLogin::Certificate { .. }) | None => None,
        };
        let protocol = match (self.is_encrypted(), mechanism) {
            (false, Some(SaslMechanism::Plain)) => {
                let message = "spec.kafka.auth.plain needs spec.kafka.tls with mode VerifyFull, because it sends the password itself";
                return Err(StoreError::configuration(PIPELINE_INVALID, message));
            }
            (false, None) => "PLAINTEXT",
            (false, Some(_)) => "SASL_PLAINTEXT",
            (true, None) => "SSL",
            (true, Some(_)) => "SASL_SSL",
        };
        config.set("security.protocol", protocol);
        if self.is_encrypted() {
            // It finds what librdkafka would not name: invalid certificates, with their place.
            client_config(&self.wire, material, Verification::Name)?;
            config
                .set("enable.ssl.certificate.verification", "true")
                .set("ssl.endpoint.identification.algorithm", "https");
            match &material.ca {
                Some(pem) => config.set("ssl.ca.pem", format!("{pem}\n")),
                // The public authorities, where distributions have them.
                None => config.set("ssl.ca.location", "probe"),
            };
            if let Some(client) = &material.client {
                config
                    .set("ssl.certificate.pem", &client.certificate)
                    .set("ssl.key.pem", &client.key);
            }
        }
        if let Some((mechanism, credentials)) = mechanism.zip(material.credentials.as_ref()) {
            config
                .set("sasl.mechanism", mechanism.name())
                .set("sasl.username", &credentials.username)
                .set("sasl.password", &credentials.password);
        }
        Ok(())
    }

    fn is_encrypted(&self) -> bool {
        self.brokers.tls.as_ref().map(|tls| tls.mode).unwrap_or_default() != TlsMode::Disable
    }

    /// Fails if a broker and this client refuse each other's certificates. librdkafka's errors do not say why, and come late.
    pub async fn verify(&self) -> Result<(), StoreError> {
        if !self.is_encrypted() {
            return Ok(());
        }
        let config = client_config(&self.wire, &self.wire.read()?, Verification::Name)?;
        match handshake::problem(&self.addresses(), config).await {
            Some((broker, problem)) => Err(self.wire.explain(
                &format!("Kafka at {broker} (spec.kafka.bootstrapServers)"),
                &problem,
                "spec.kafka.bootstrapServers and the address that the broker advertises",
            )),
            None => Ok(()),
        }
    }

    /// Fails if no broker can be reached, or its certificate is refused. Nothing is authenticated: a broker that requires a client
    /// certificate was reached.
    pub async fn reach(&self) -> Result<(), StoreError> {
        if self.is_encrypted() {
            let config = client_config(&self.wire, &self.wire.read()?, Verification::Name)?;
            match handshake::problem(&self.addresses(), config).await {
                Some((_, TlsProblem::ClientRefused { .. })) => return Ok(()),
                Some(_) => self.verify().await?,
                None => {}
            }
        }
        for address in self.addresses() {
            if matches!(timeout(REACH, TcpStream::connect(&address)).await, Ok(Ok(_))) {
                return Ok(());
            }
        }
        let message = format!(
            "Kafka at {} does not answer (spec.kafka.bootstrapServers)",
            self.brokers.bootstrap_servers
        );
        Err(StoreError::transient(KAFKA_UNREACHABLE, message))
    }

    /// Why brokers do not answer: certificates, credentials, or the network. Other errors stay as they are.
    pub async fn locate(&self, mut error: StoreError) -> StoreError {
        if error.reason != KAFKA_UNREACHABLE {
            return error;
        }
        if let Err(refused) = self.verify().await {
            return refused;
        }
        let at = format!("Kafka at {}", self.brokers.bootstrap_servers);
        if !self.is_encrypted() && self.offers_tls().await {
            let message = format!("{at} accepts only encrypted connections: set the mode in spec.kafka.tls to VerifyFull");
            return StoreError::configuration(TLS_MISMATCH, message);
        }
        if let Some(refusal) = self.refusals.recent() {
            return self.refused(&at, &refusal);
        }
        error.message = format!("{at} does not answer (spec.kafka.bootstrapServers): {}", error.message);
        error
    }

    /// The TLS session with the first broker that answers; none in plain text, or if no handshake succeeds.
    pub async fn tls_session(&self) -> Option<TlsSession> {
        let material = self.wire.read().ok().filter(|_| self.is_encrypted())?;
        let config = client_config(&self.wire, &material, Verification::Name).ok()?;
        handshake::inspect(&self.addresses(), config, Opening::Direct).await
    }

    fn addresses(&self) -> Vec<String> {
        self.brokers.bootstrap_servers.split(',').map(str::to_owned).collect()
    }

    async fn offers_tls(&self) -> bool {
        match client_config(&self.wire, &Material::default(), Verification::Name) {
            Ok(config) => handshake::is_offered(&self.addresses(), config).await,
            Err(_) => false,
        }
    }

    /// Takes up what a client reported that has no [`Reporter`].
    pub(super) fn report(&self, text: &str) {
        self.refusals.report(text);
    }

    fn refused(&self, at: &str, refusal: &Refusal) -> StoreError {
        match refusal {
            Refusal::Credentials(text) => StoreError::configuration(
                CREDENTIALS_REFUSED,
                format!("{at} refused {}: {text}", self.wire.credentials_place()),
            ),
            Refusal::Mechanism(text) => StoreError::configuration(
                KAFKA_FAILED,
                format!("{at} does not offer the mechanism of spec.kafka.auth: {text}"),
            ),
            Refusal::Certificate(text) => {
                let problem = TlsProblem::Other(text.clone());
                self.wire.explain(at, &problem, "spec.kafka.bootstrapServers")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::{Value, json};
    use userpipeline_api::Kafka;

    use super::*;
    use crate::error::CREDENTIALS_MISSING;

    fn config(kafka: &Value) -> Result<ClientConfig, StoreError> {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("login")).unwrap();
        fs::write(dir.path().join("login/username"), "ann").unwrap();
        fs::write(dir.path().join("login/password"), "one").unwrap();
        let kafka: Kafka = serde_json::from_value(kafka.clone()).unwrap();
        Connection::new(&kafka.brokers(), &Secrets::in_dir(dir.path())).client_config("test")
    }

    #[test]
    fn the_protocol_follows_from_tls_and_auth() {
        let login = json!({"credentialsSecretRef": {"name": "login"}});
        for (tls, auth, protocol, mechanism) in [
            (json!({"mode": "Disable"}), Value::Null, "PLAINTEXT", None),
            (Value::Null, Value::Null, "SSL", None),
            (json!({}), json!({"plain": login}), "SASL_SSL", Some("PLAIN")),
            (
                json!({"mode": "VerifyFull"}),
                json!({"scramSha512": login}),
                "SASL_SSL",
                Some("SCRAM-SHA-512"),
            ),
            (
                json!({"mode": "Disable"}),
                json!({"scramSha256": login}),
                "SASL_PLAINTEXT",
                Some("SCRAM-SHA-256"),
            ),
        ] {
            let config = config(&json!({"bootstrapServers": "kafka:9092", "tls": tls, "auth": auth})).unwrap();
            assert_eq!(config.get("security.protocol"), Some(protocol));
            assert_eq!(config.get("sasl.mechanism"), mechanism);
            assert_eq!(config.get("sasl.password"), mechanism.map(|_| "one"));
            let verifies = protocol.ends_with("SSL").then_some("https");
            assert_eq!(config.get("ssl.endpoint.identification.algorithm"), verifies);
            // librdkafka was built with what this needs.
            config.create::<rdkafka::consumer::BaseConsumer>().unwrap();
        }
    }

    #[test]
    fn a_kafka_user_logs_in_as_its_listener_authenticates() {
        let user =
            |secret: &str, authentication: &str| json!({"strimziUser": {"secretRef": {"name": secret}, "authentication": authentication}});
        // Only the password is in the Secret of a KafkaUser.
        let scram = config(&json!({"bootstrapServers": "kafka:9093", "tls": {"mode": "Disable"}, "auth": user("login", "scram-sha-512")}));
        let scram = scram.unwrap();
        let settings = ["security.protocol", "sasl.mechanism", "sasl.username", "sasl.password"].map(|name| scram.get(name).unwrap());
        assert_eq!(settings, ["SASL_PLAINTEXT", "SCRAM-SHA-512", "login", "one"]);

        let place = "Secret `other` (spec.kafka.auth.strimziUser)";
        for (auth, reason, says) in [
            (
                user("other", "scram-sha-512"),
                CREDENTIALS_MISSING,
                format!("{place} not found: create it with the key `password`"),
            ),
            (
                user("other", "tls"),
                CREDENTIALS_MISSING,
                format!("{place} not found: create it with the key `user.crt`"),
            ),
            (
                json!({"strimziUser": {}}),
                PIPELINE_INVALID,
                "needs secretRef and authentication".to_owned(),
            ),
        ] {
            let error = config(&json!({"bootstrapServers": "kafka:9093", "auth": auth})).unwrap_err();
            assert_eq!(error.reason, reason);
            assert!(error.message.contains(&says), "{error}");
        }
    }

    #[test]
    fn a_password_is_not_sent_in_plain_text() {
        let auth = json!({"plain": {"credentialsSecretRef": {"name": "login"}}});
        let error = config(&json!({"bootstrapServers": "kafka:9092", "tls": {"mode": "Disable"}, "auth": auth})).unwrap_err();
        assert_eq!(error.reason, PIPELINE_INVALID);
        let missing = json!({"scramSha512": {"credentialsSecretRef": {"name": "other"}}});
        let error = config(&json!({"bootstrapServers": "kafka:9092", "auth": missing})).unwrap_err();
        assert_eq!(error.reason, CREDENTIALS_MISSING);
        assert!(
            error
                .message
                .contains("Secret `other` (spec.kafka.auth.scramSha512.credentialsSecretRef)"),
            "{error}"
        );
    }
}

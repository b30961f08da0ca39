//! What librdkafka reports of brokers that refuse a connection: only as text, and only to a callback.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rdkafka::{client::ClientContext, config::RDKafkaLogLevel, consumer::ConsumerContext, error::KafkaError};

/// Repeated errors are reported every 30 seconds.
const RECENT: Duration = Duration::from_secs(45);

/// Why a broker refuses connections, with librdkafka's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// User name and password, or their absence.
    Credentials(String),
    /// The broker does not offer the mechanism of SASL.
    Mechanism(String),
    /// One side does not accept the other's certificate.
    Certificate(String),
}

impl Refusal {
    /// The meaning of a text; none if it is of the network or of the broker's state.
    fn of(text: &str) -> Option<Self> {
        let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
        let shown = shown(text);
        if has(&["Unsupported SASL mechanism", "not enabled in the server"]) {
            Some(Self::Mechanism(shown))
        } else if has(&[
            "SASL authentication error",
            "Authentication failed",
            "might require SASL authentication",
        ]) {
            Some(Self::Credentials(shown))
        } else if has(&[
            "certificate verify failed",
            "could not be verified",
            "alert certificate",
            "alert bad certificate",
            "alert unknown ca",
            "alert handshake failure",
        ]) {
            Some(Self::Certificate(shown))
        } else {
            None
        }
    }
}

/// Without its hints about librdkafka's own settings, which users do not have.
fn shown(text: &str) -> String {
    let end = [
        ": broker certificate could not be verified, verify that",
        ": verify that security.protocol",
        " (after ",
    ];
    let end = end.iter().filter_map(|hint| text.find(hint)).min().unwrap_or(text.len());
    text[..end].to_owned()
}

/// The last refusal that clients reported.
#[derive(Clone, Debug, Default)]
pub struct Refusals(Arc<Mutex<Option<(Instant, Refusal)>>>);

impl Refusals {
    pub fn report(&self, text: &str) {
        if let Some(refusal) = Refusal::of(text) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), refusal));
        }
    }

    pub fn recent(&self) -> Option<Refusal> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        last.filter(|(at, _)| at.elapsed() < RECENT).map(|(_, refusal)| refusal)
    }
}

/// A client's context that logs, and keeps refusals.
#[derive(Clone, Debug)]
pub struct Reporter {
    refusals: Refusals,
}

impl Reporter {
    pub(super) const fn new(refusals: Refusals) -> Self {
        Self { refusals }
    }
}

impl ClientContext for Reporter {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => tracing::error!(facility, message, "librdkafka"),
            // Mostly brokers that come and go; the status reports them.
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => tracing::info!(facility, message, "librdkafka"),
            _ => tracing::debug!(facility, message, "librdkafka"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.refusals.report(reason);
        tracing::debug!(%error, reason, "librdkafka");
    }
}

impl ConsumerContext for Reporter {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_of_librdkafka_have_their_meaning_and_lose_its_hints() {
        let certificate = |text: &str| Some(Refusal::Certificate(text.to_owned()));
        for (text, expected) in [
            (
                "ssl://kafka:9093/bootstrap: SSL handshake failed: error:0A000086:SSL routines::certificate verify failed: broker \
                 certificate could not be verified, verify that ssl.ca.location is correctly configured or root CA certificates are \
                 installed (install ca-certificates package) (after 4ms in state SSL_HANDSHAKE)",
                certificate("ssl://kafka:9093/bootstrap: SSL handshake failed: error:0A000086:SSL routines::certificate verify failed"),
            ),
            (
                "sasl_ssl://kafka:9094/bootstrap: SASL authentication error: Authentication failed during authentication due to \
                 invalid credentials with SASL mechanism SCRAM-SHA-512 (after 312ms in state AUTH_REQ)",
                Some(Refusal::Credentials(
                    "sasl_ssl://kafka:9094/bootstrap: SASL authentication error: Authentication failed during authentication due to \
                     invalid credentials with SASL mechanism SCRAM-SHA-512"
                        .to_owned(),
                )),
            ),
            (
                "kafka:9092/bootstrap: Connect to ipv4#10.0.0.1:9092 failed: Connection refused",
                None,
            ),
        ] {
            assert_eq!(Refusal::of(text), expected, "{text}");
        }
    }
}

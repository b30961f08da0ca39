//! How to reach a Kafka cluster.

use rdkafka::ClientConfig;

use crate::{StoreError, error::KAFKA_UNREACHABLE};

/// The brokers of a cluster.
#[derive(Clone, Debug)]
pub struct Connection {
    bootstrap_servers: String,
}

impl Connection {
    pub fn new(bootstrap_servers: &str) -> Self {
        Self {
            bootstrap_servers: bootstrap_servers.to_owned(),
        }
    }

    pub fn bootstrap_servers(&self) -> &str {
        &self.bootstrap_servers
    }

    /// The settings that all clients share.
    pub fn client_config(&self, client_id: &str) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.bootstrap_servers)
            .set("client.id", client_id)
            // A broker that comes back is found soon, even after a long outage.
            .set("reconnect.backoff.ms", "100")
            .set("reconnect.backoff.max.ms", "5000")
            // The address of a deleted pod never answers, not even with a reset.
            .set("socket.connection.setup.timeout.ms", "5000")
            .set("socket.keepalive.enable", "true");
        config
    }

    /// Adds the brokers' addresses to an error that reports that none of them answers.
    pub fn locate(&self, mut error: StoreError) -> StoreError {
        if error.reason == KAFKA_UNREACHABLE {
            error.message = format!(
                "Kafka at {} does not answer (spec.kafka.bootstrapServers): {}",
                self.bootstrap_servers, error.message
            );
        }
        error
    }
}

//! Kafka clients.

pub mod admin;
pub mod errors;
mod native;
pub mod producer;

pub use native::headers;
use rdkafka::ClientConfig;

/// What every client of ours has in common.
pub fn client_config(bootstrap_servers: &str, client_id: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap_servers)
        .set("client.id", client_id)
        // A broker that comes back is found soon, also after a long time.
        .set("reconnect.backoff.ms", "100")
        .set("reconnect.backoff.max.ms", "5000")
        // The address of a pod that is gone answers nothing, not even a refusal.
        .set("socket.connection.setup.timeout.ms", "5000")
        .set("socket.keepalive.enable", "true");
    config
}

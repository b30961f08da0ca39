//! Real servers with TLS listeners, described by environment variables.

use std::{env, fs, path::Path};

use crate::certificates::Authority;

/// The servers, and the authority that signs the certificates of servers and clients.
pub struct Local {
    pub authority: Authority,
    /// PostgreSQL: `WIRES_POSTGRES`, as `host:port`; its login: `WIRES_POSTGRES_USERNAME` and `WIRES_POSTGRES_PASSWORD`. In
    /// pg_hba.conf, both databases have `hostssl` and `scram-sha-256`, and `certified` also `clientcert=verify-ca`.
    pub postgres: String,
    pub postgres_username: String,
    pub postgres_password: String,
    /// Brokers with SASL over TLS: `WIRES_KAFKA_SASL`, as `host:port`.
    pub kafka_sasl: String,
    /// Brokers that require a client certificate: `WIRES_KAFKA_MTLS`, as `host:port`.
    pub kafka_mtls: String,
    /// A node that requires a client certificate and a password: `WIRES_CASSANDRA`, as `host:port`; its login:
    /// `WIRES_CASSANDRA_USERNAME` and `WIRES_CASSANDRA_PASSWORD`. Its datacenter is `datacenter1`.
    pub cassandra: String,
    pub cassandra_username: String,
    pub cassandra_password: String,
    /// The login of Kafka: `WIRES_USERNAME` and `WIRES_PASSWORD`.
    pub username: String,
    pub password: String,
}

impl Local {
    /// `WIRES_CA` names the folder with the authority's `tls.crt` and `tls.key`.
    pub fn from_env() -> Self {
        let variable = |name: &str| env::var(name).unwrap_or_else(|_| panic!("{name} is not set: see stores/tests/wires/local.rs"));
        let ca = variable("WIRES_CA");
        let file = |name| fs::read_to_string(Path::new(&ca).join(name)).unwrap();
        Self {
            authority: Authority::of(&file("tls.crt"), &file("tls.key")),
            kafka_sasl: variable("WIRES_KAFKA_SASL"),
            kafka_mtls: variable("WIRES_KAFKA_MTLS"),
            postgres: variable("WIRES_POSTGRES"),
            postgres_username: variable("WIRES_POSTGRES_USERNAME"),
            postgres_password: variable("WIRES_POSTGRES_PASSWORD"),
            cassandra: variable("WIRES_CASSANDRA"),
            cassandra_username: variable("WIRES_CASSANDRA_USERNAME"),
            cassandra_password: variable("WIRES_CASSANDRA_PASSWORD"),
            username: variable("WIRES_USERNAME"),
            password: variable("WIRES_PASSWORD"),
        }
    }
}

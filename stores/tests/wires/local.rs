//! The servers of the local cluster, from the environment that `local/services/with-servers.sh` sets.

use std::{env, fs, path::Path};

use crate::certificates::Authority;

/// A server with a user.
pub struct Server {
    /// `host:port`, or a URL.
    pub address: String,
    pub username: String,
    pub password: String,
}

pub struct Local {
    /// It signs the certificates of servers and clients.
    pub authority: Authority,
    /// TLS only.
    pub postgres: Server,
    /// The same server, with a role that needs a client certificate with its name.
    pub postgres_certificate: Server,
    /// SASL over TLS.
    pub kafka: Server,
    /// A listener that requires a client certificate.
    pub kafka_mtls: String,
    /// TLS only, in the datacenter `datacenter1`.
    pub cassandra: Server,
    /// Basic authentication over TLS.
    pub registry: Server,
    /// A listener that requires a client certificate.
    pub registry_mtls: String,
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run the tests with local/services/with-servers.sh"))
}

impl Server {
    fn from_env(name: &str) -> Self {
        Self {
            address: variable(&format!("WIRES_{name}")),
            username: variable(&format!("WIRES_{name}_USERNAME")),
            password: variable(&format!("WIRES_{name}_PASSWORD")),
        }
    }
}

/// The same server by an address that is not in its certificate.
pub fn by_another_name(address: &str) -> String {
    address.replace("127.0.0.1", "0.0.0.0")
}

impl Local {
    pub fn from_env() -> Self {
        let ca = variable("WIRES_CA");
        let file = |name| fs::read_to_string(Path::new(&ca).join(name)).unwrap();
        Self {
            authority: Authority::of(&file("tls.crt"), &file("tls.key")),
            postgres: Server::from_env("POSTGRES"),
            postgres_certificate: Server::from_env("POSTGRES_CERTIFICATE"),
            kafka: Server::from_env("KAFKA"),
            kafka_mtls: variable("WIRES_KAFKA_MTLS"),
            cassandra: Server::from_env("CASSANDRA"),
            registry: Server::from_env("REGISTRY"),
            registry_mtls: variable("WIRES_REGISTRY_MTLS"),
        }
    }
}

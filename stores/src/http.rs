//! Servers of HTTP APIs: whether they answer, and with which TLS.

use std::time::Duration;

use reqwest::Url;
use tokio::{net::TcpStream, time::timeout};
use userpipeline_api::Certificates;

use crate::{
    Secrets, StoreError,
    error::{PIPELINE_INVALID, SOURCE_UNREACHABLE},
    wire::{
        TlsProblem, Verification, Wire, client_config,
        handshake::{self, Opening, TlsSession},
    },
};

const TIMEOUT: Duration = Duration::from_secs(10);

/// The host and port of a URL. None if it has no host.
pub fn address(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?))
}

/// The server of a URL, and the certificates for it.
#[derive(Clone, Debug)]
pub struct Connection {
    url: String,
    wire: Wire,
}

impl Connection {
    pub fn new(url: &str, certificates: &Certificates, secrets: &Secrets) -> Self {
        Self {
            url: url.to_owned(),
            wire: Wire::new("spec.http", secrets)
                .with_certificates(Some(certificates))
                .with_public_authorities(),
        }
    }

    /// Connects, and shakes hands if the URL is https. Sends no request: no path is known that changes nothing.
    pub async fn verify(&self) -> Result<(), StoreError> {
        let url = &self.url;
        let invalid = || StoreError::configuration(PIPELINE_INVALID, format!("`{url}` (spec.http.baseUrl) is no URL with a host"));
        let address = address(url).ok_or_else(invalid)?;
        let at = format!("the API at {address} (spec.http.baseUrl)");
        let unreachable = |why: &str| StoreError::transient(SOURCE_UNREACHABLE, format!("{at} does not answer: {why}"));
        match timeout(TIMEOUT, TcpStream::connect(&address)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(unreachable(&error.to_string())),
            Err(_) => return Err(unreachable("no connection within ten seconds")),
        }
        if !self.is_encrypted() {
            return Ok(());
        }
        let config = client_config(&self.wire, &self.wire.read()?, Verification::Name)?;
        let problem = match handshake::problem(&[address], config).await {
            Some((_, problem)) => problem,
            None if self.tls_session().await.is_some() => return Ok(()),
            // It closes the connection.
            None => TlsProblem::NoTls,
        };
        Err(self.wire.explain(&at, &problem, "spec.http.baseUrl"))
    }

    /// The TLS session with the server; none in plain text, or if the handshake fails.
    pub async fn tls_session(&self) -> Option<TlsSession> {
        let material = self.wire.read().ok().filter(|_| self.is_encrypted())?;
        let config = client_config(&self.wire, &material, Verification::Name).ok()?;
        handshake::inspect(&[address(&self.url)?], config, Opening::Direct).await
    }

    fn is_encrypted(&self) -> bool {
        self.url.starts_with("https://")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_the_port_of_its_scheme() {
        for (url, expected) in [
            ("https://crm.example/api", Some("crm.example:443")),
            ("http://crm.example", Some("crm.example:80")),
            ("https://crm.example:8443", Some("crm.example:8443")),
            ("nonsense", None),
        ] {
            assert_eq!(address(url).as_deref(), expected, "{url}");
        }
    }
}

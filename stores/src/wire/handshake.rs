//! A TLS handshake that finds out what the drivers of Kafka and Cassandra do not report.

use std::{sync::Arc, time::Duration};

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{io::AsyncReadExt, net::TcpStream, task::JoinSet, time::timeout};
use tokio_rustls::TlsConnector;

use super::problem::TlsProblem;

const TIMEOUT: Duration = Duration::from_secs(5);
/// A server refuses a client certificate only after the handshake (TLS 1.3), within this time.
const REFUSAL: Duration = Duration::from_millis(500);

/// How a handshake ended.
enum Handshake {
    Done,
    Failed(TlsProblem),
    /// The server closed the connection, or does not answer: it has no TLS, or is starting.
    NoAnswer,
}

/// Whether one of the servers answers with TLS, whatever its certificate.
pub async fn is_offered(addresses: &[String], config: ClientConfig) -> bool {
    let mut handshakes = handshakes(addresses, config);
    while let Some(ended) = handshakes.join_next().await {
        match ended {
            Ok((_, Handshake::Done)) => return true,
            Ok((_, Handshake::Failed(problem))) if problem != TlsProblem::NoTls => return true,
            Ok(_) | Err(_) => {}
        }
    }
    false
}

/// A problem with one of the servers; none if they do not answer at all.
pub async fn problem(addresses: &[String], config: ClientConfig) -> Option<(String, TlsProblem)> {
    let mut handshakes = handshakes(addresses, config);
    while let Some(ended) = handshakes.join_next().await {
        if let Ok((address, Handshake::Failed(problem))) = ended {
            return Some((address, problem));
        }
    }
    None
}

/// With all servers at the same time, so that those that are down delay nothing.
fn handshakes(addresses: &[String], config: ClientConfig) -> JoinSet<(String, Handshake)> {
    let connector = TlsConnector::from(Arc::new(config));
    let each = addresses.iter().map(|address| {
        let (address, connector) = (address.clone(), connector.clone());
        async move {
            let ended = handshake(&address, &connector).await;
            (address, ended)
        }
    });
    each.collect()
}

async fn handshake(address: &str, connector: &TlsConnector) -> Handshake {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let Ok(name) = ServerName::try_from(host.to_owned()) else {
        return Handshake::Failed(TlsProblem::Other(format!("`{host}` is no host name")));
    };
    let connecting = async {
        let stream = TcpStream::connect(address).await?;
        connector.connect(name, stream).await
    };
    let mut stream = match timeout(TIMEOUT, connecting).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return TlsProblem::find(&error).map_or(Handshake::NoAnswer, Handshake::Failed),
        Err(_) => return Handshake::NoAnswer,
    };
    match timeout(REFUSAL, stream.read_u8()).await {
        Ok(Err(error)) => TlsProblem::find(&error).map_or(Handshake::Done, Handshake::Failed),
        // Servers wait for a request.
        Ok(Ok(_)) | Err(_) => Handshake::Done,
    }
}

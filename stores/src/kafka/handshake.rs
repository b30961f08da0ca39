//! A TLS handshake with the brokers, which finds out what librdkafka does not report.

use std::{sync::Arc, time::Duration};

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use crate::wire::TlsProblem;

const TIMEOUT: Duration = Duration::from_secs(5);
/// A broker refuses a client certificate only after the handshake (TLS 1.3), within this time.
const REFUSAL: Duration = Duration::from_millis(500);

/// How a handshake ended.
enum Handshake {
    Done,
    Failed(TlsProblem),
    /// The broker closed the connection, or does not answer: it has no TLS, or is starting.
    NoAnswer,
}

/// Whether one of the brokers answers with TLS, whatever its certificate.
pub async fn is_offered(bootstrap_servers: &str, config: ClientConfig) -> bool {
    let connector = TlsConnector::from(Arc::new(config));
    for broker in bootstrap_servers.split(',') {
        match handshake(broker, &connector).await {
            Handshake::Done => return true,
            Handshake::Failed(problem) if problem != TlsProblem::NoTls => return true,
            Handshake::Failed(_) | Handshake::NoAnswer => {}
        }
    }
    false
}

/// The first problem with one of the brokers; none if they do not answer at all.
pub async fn problem(bootstrap_servers: &str, config: ClientConfig) -> Option<(String, TlsProblem)> {
    let connector = TlsConnector::from(Arc::new(config));
    for broker in bootstrap_servers.split(',') {
        if let Handshake::Failed(problem) = handshake(broker, &connector).await {
            return Some((broker.to_owned(), problem));
        }
    }
    None
}

async fn handshake(broker: &str, connector: &TlsConnector) -> Handshake {
    let host = broker.rsplit_once(':').map_or(broker, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let Ok(name) = ServerName::try_from(host.to_owned()) else {
        return Handshake::Failed(TlsProblem::Other(format!("`{host}` is no host name")));
    };
    let connecting = async {
        let stream = TcpStream::connect(broker).await?;
        connector.connect(name, stream).await
    };
    let mut stream = match timeout(TIMEOUT, connecting).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return TlsProblem::find(&error).map_or(Handshake::NoAnswer, Handshake::Failed),
        Err(_) => return Handshake::NoAnswer,
    };
    match timeout(REFUSAL, stream.read_u8()).await {
        Ok(Err(error)) => TlsProblem::find(&error).map_or(Handshake::Done, Handshake::Failed),
        // Brokers wait for a request.
        Ok(Ok(_)) | Err(_) => Handshake::Done,
    }
}

//! A TLS handshake that finds out what drivers do not report: why certificates are refused, and which are used.

use std::{io, sync::Arc, time::Duration};

use rustls::{ClientConfig, ProtocolVersion, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{material::not_after, problem::TlsProblem};

const TIMEOUT: Duration = Duration::from_secs(5);
/// A server refuses a client certificate only after the handshake (TLS 1.3), within this time.
const REFUSAL: Duration = Duration::from_millis(500);

/// PostgreSQL's request for TLS, and the response that accepts it.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
const SSL_ACCEPTED: u8 = b'S';

/// How a server is asked for TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// It speaks TLS from the first byte on.
    Direct,
    /// By a message of PostgreSQL's protocol.
    Postgres,
}

/// What a handshake shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSession {
    /// Such as `TLS 1.3`.
    pub version: String,
    /// The end of validity of the server's certificate, in seconds since 1970.
    pub not_after: Option<i64>,
}

/// A session with the first of the servers with which the handshake succeeds.
pub async fn inspect(addresses: &[String], config: ClientConfig, opening: Opening) -> Option<TlsSession> {
    let connector = TlsConnector::from(Arc::new(config));
    for address in addresses {
        let name = server_name(address).ok()?;
        if let Ok(Ok(stream)) = timeout(TIMEOUT, connect(address, name, &connector, opening)).await {
            let (_, session) = stream.get_ref();
            let certificate = session.peer_certificates().and_then(<[_]>::first);
            return Some(TlsSession {
                version: version(session.protocol_version()),
                not_after: certificate.and_then(not_after),
            });
        }
    }
    None
}

fn version(version: Option<ProtocolVersion>) -> String {
    match version {
        Some(ProtocolVersion::TLSv1_3) => "TLS 1.3".to_owned(),
        Some(ProtocolVersion::TLSv1_2) => "TLS 1.2".to_owned(),
        other => format!("{other:?}"),
    }
}

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

/// The name in an address, or the host that is none.
fn server_name(address: &str) -> Result<ServerName<'static>, String> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    ServerName::try_from(host.clone()).map_err(|_| host)
}

async fn connect(address: &str, name: ServerName<'static>, connector: &TlsConnector, opening: Opening) -> io::Result<TlsStream<TcpStream>> {
    let mut stream = TcpStream::connect(address).await?;
    if opening == Opening::Postgres {
        stream.write_all(&SSL_REQUEST).await?;
        if stream.read_u8().await? != SSL_ACCEPTED {
            return Err(io::Error::other("the server does not accept TLS"));
        }
    }
    connector.connect(name, stream).await
}

async fn handshake(address: &str, connector: &TlsConnector) -> Handshake {
    let name = match server_name(address) {
        Ok(name) => name,
        Err(host) => return Handshake::Failed(TlsProblem::Other(format!("`{host}` is no host name"))),
    };
    let mut stream = match timeout(TIMEOUT, connect(address, name, connector, Opening::Direct)).await {
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

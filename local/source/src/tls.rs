//! The listener for HTTPS.

use std::{fmt, io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::Context;
use axum::serve::Listener;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc::{self, Receiver, Sender},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections whose handshake is complete, and that the server has not accepted yet.
const BACKLOG: usize = 64;

type Connection = (TlsStream<TcpStream>, SocketAddr);

/// Accepts connections and completes their handshakes, each in a task of its own: a client that is silent delays no other.
pub struct TlsListener {
    address: SocketAddr,
    accepted: Receiver<Connection>,
}

impl TlsListener {
    /// Reads the certificate chain and the key, both PEM. A changed file takes effect at the next start.
    pub fn new(listener: TcpListener, certificate: &Path, key: &Path) -> anyhow::Result<Self> {
        let acceptor = TlsAcceptor::from(Arc::new(config(certificate, key)?));
        let address = listener.local_addr()?;
        let (sender, accepted) = mpsc::channel(BACKLOG);
        tokio::spawn(accept(listener, acceptor, sender));
        Ok(Self { address, accepted })
    }
}

fn config(certificate: &Path, key: &Path) -> anyhow::Result<ServerConfig> {
    let unusable = |path: &Path| format!("{} is not usable PEM", path.display());
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .with_context(|| unusable(certificate))?;
    let private_key = PrivateKeyDer::from_pem_file(key).with_context(|| unusable(key))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, private_key)
        .with_context(|| format!("{} and {} do not fit together", certificate.display(), key.display()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

async fn accept(mut listener: TcpListener, acceptor: TlsAcceptor, sender: Sender<Connection>) {
    loop {
        let (stream, client) = tokio::select! {
            // Not the inherent function: axum's waits when the process has no file descriptor left.
            connection = Listener::accept(&mut listener) => connection,
            () = sender.closed() => return,
        };
        tokio::spawn(handshake(acceptor.clone(), stream, client, sender.clone()));
    }
}

async fn handshake(acceptor: TlsAcceptor, stream: TcpStream, client: SocketAddr, sender: Sender<Connection>) {
    match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        // An error means that the server is stopping, and closes the connection.
        Ok(Ok(stream)) => drop(sender.send((stream, client)).await),
        Ok(Err(error)) => tracing::info!(%client, %error, "TLS handshake failed"),
        Err(_) => tracing::info!(%client, timeout = ?HANDSHAKE_TIMEOUT, "TLS handshake timed out"),
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.accepted.recv().await {
            Some(connection) => connection,
            // The accepting task has panicked. This trait cannot report an error.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

impl fmt::Debug for TlsListener {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("TlsListener")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

//! As much of PostgreSQL's protocol as it takes to open a connection.

use std::{io, sync::Arc};

use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

/// `AuthenticationOk` and `ReadyForQuery`.
const WELCOME: &[u8] = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";

/// A server on its port; without `tls`, it declines encryption.
pub async fn serve(tls: Option<Arc<ServerConfig>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(converse(stream, tls.clone()));
        }
    });
    port
}

async fn converse(mut stream: TcpStream, tls: Option<Arc<ServerConfig>>) -> io::Result<()> {
    // The request for encryption.
    let mut request = [0; 8];
    stream.read_exact(&mut request).await?;
    let Some(tls) = tls else {
        stream.write_all(b"N").await?;
        return welcome(stream).await;
    };
    stream.write_all(b"S").await?;
    welcome(TlsAcceptor::from(tls).accept(stream).await?).await
}

async fn welcome(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let length = stream.read_i32().await?;
    let mut startup = vec![0; usize::try_from(length).unwrap() - 4];
    stream.read_exact(&mut startup).await?;
    stream.write_all(WELCOME).await?;
    stream.flush().await?;
    // Until the client closes.
    let _ = stream.read(&mut [0; 64]).await?;
    Ok(())
}

//! As much of a registry as it takes to look up a schema.

use std::{io, sync::Arc};

use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

/// A server on its port, which requires this header `Authorization`, if any.
pub async fn serve(tls: Option<Arc<ServerConfig>>, authorization: Option<&'static str>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let tls = tls.clone();
            tokio::spawn(async move {
                match tls {
                    Some(tls) => answer(TlsAcceptor::from(tls).accept(stream).await?, authorization).await,
                    None => answer(stream, authorization).await,
                }
            });
        }
    });
    port
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, authorization: Option<&str>) -> io::Result<()> {
    loop {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await?);
            // As servers answer a handshake on a port without TLS.
            if !request.is_ascii() || request[0] < b'A' {
                return stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
            }
        }
        let request = String::from_utf8_lossy(&request).into_owned();
        let header = |value| request.lines().any(|line| line == format!("authorization: {value}"));
        let (status, body) = if request.contains("/schemas/ids/3 ") {
            ("302 Found\r\nlocation: http://elsewhere.example/", "")
        } else if authorization.is_none_or(header) {
            ("200 OK", r#"{"schema": "\"string\""}"#)
        } else {
            ("401 Unauthorized", "")
        };
        let response = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(response.as_bytes()).await?;
        stream.flush().await?;
    }
}

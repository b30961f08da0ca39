//! A connection to the broker's encrypted listener, with the user of the services, who is a super user.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::message::{Reader, Writer, check};
use crate::{
    cluster::{self, SERVICES, credentials, host},
    eventually,
    services::Mounted,
};

const SASL_HANDSHAKE: (i16, i16) = (17, 1);
const SASL_AUTHENTICATE: (i16, i16) = (36, 0);
const TIMEOUT: Duration = Duration::from_secs(15);

pub struct BrokerAdmin {
    stream: TlsStream<TcpStream>,
    requests: i32,
}

/// A request without an array of tagged fields in its header, or with one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Header {
    Plain,
    Tagged,
}

impl BrokerAdmin {
    /// Tries for a while: for some seconds after the broker has restarted, its node port refuses connections.
    pub async fn connect() -> Result<Self> {
        eventually("a connection to Kafka", TIMEOUT, async || {
            Ok(Ok(timeout(TIMEOUT, Self::log_in()).await.context("no answer")??))
        })
        .await
    }

    async fn log_in() -> Result<Self> {
        let client = cluster::connect().await?;
        let (user, password) = credentials(&client, SERVICES, "kafka-userpipeline").await?;
        let tls = Mounted::new(&client, &[]).await?.client_config(None)?;
        let stream = TcpStream::connect(host::KAFKA).await?;
        let stream = TlsConnector::from(Arc::new(tls))
            .connect(ServerName::try_from("localhost")?, stream)
            .await?;
        let mut admin = Self { stream, requests: 0 };
        let mut mechanism = Writer::default();
        mechanism.string("PLAIN")?;
        let answer = admin.request(SASL_HANDSHAKE, Header::Plain, &mechanism).await?;
        check("the mechanism PLAIN", Reader(&answer).i16()?, "")?;
        let (login, mut authentication) = (format!("\0{user}\0{password}"), Writer::default());
        authentication.length(login.len())?.bytes(login.as_bytes());
        let answer = admin.request(SASL_AUTHENTICATE, Header::Plain, &authentication).await?;
        let mut answer = Reader(&answer);
        check("the login", answer.i16()?, &answer.string()?)?;
        Ok(admin)
    }

    /// Sends a request (key and version). Gives the answer without its header.
    pub(super) async fn request(&mut self, (key, version): (i16, i16), header: Header, body: &Writer) -> Result<Vec<u8>> {
        timeout(TIMEOUT, self.exchange(key, version, header, body))
            .await
            .with_context(|| format!("request {key} of Kafka's protocol"))?
    }

    async fn exchange(&mut self, key: i16, version: i16, header: Header, body: &Writer) -> Result<Vec<u8>> {
        self.requests += 1;
        let mut message = Writer::default();
        message.i16(key).i16(version).i32(self.requests).string("end-to-end")?;
        if header == Header::Tagged {
            message.no_tags();
        }
        message.bytes(&body.0);
        let mut frame = Writer::default();
        frame.length(message.0.len())?.bytes(&message.0);
        self.stream.write_all(&frame.0).await?;
        self.stream.flush().await?;
        let length = usize::try_from(self.stream.read_i32().await?)?;
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer).await?;
        let mut answer = Reader(&answer);
        ensure!(answer.i32()? == self.requests, "the answer to another request");
        if header == Header::Tagged {
            answer.tags()?;
        }
        Ok(answer.0.to_vec())
    }
}

//! HTTPS as its clients observe it.

// Clippy does not take the functions around the tests for tests.
#![allow(clippy::unwrap_used)]

use std::{fs, net::SocketAddr};

use base64::{Engine, engine::general_purpose::STANDARD};
use randomuser_source::{Config, TlsListener, serve};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use reqwest::{Certificate, Client, StatusCode};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

fn pem(kind: &str, der: &[u8]) -> String {
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", STANDARD.encode(der))
}

/// A server on two ports, stopped when dropped.
struct Source {
    http: SocketAddr,
    https: SocketAddr,
    client: Client,
    stop: CancellationToken,
}

impl Drop for Source {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Source {
    async fn start() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".into()]).unwrap();
        let files = tempfile::tempdir().unwrap();
        let (certificate, key) = (files.path().join("tls.crt"), files.path().join("tls.key"));
        fs::write(&certificate, pem("CERTIFICATE", cert.der())).unwrap();
        fs::write(&key, pem("PRIVATE KEY", &signing_key.serialize_der())).unwrap();

        let http = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let https = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (plain, encrypted) = (http.local_addr().unwrap(), https.local_addr().unwrap());
        let listener = TlsListener::new(https, &certificate, &key).unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(serve(http, Some(listener), Config::default(), stop.clone()));
        let root = Certificate::from_der(cert.der()).unwrap();
        let client = Client::builder().no_proxy().tls_certs_only([root]).build().unwrap();
        Self {
            http: plain,
            https: encrypted,
            client,
            stop,
        }
    }

    async fn get(&self, path: &str) -> reqwest::Result<reqwest::Response> {
        let url = format!("https://localhost:{}{path}", self.https.port());
        self.client.get(url).send().await
    }
}

#[tokio::test]
async fn a_client_that_verifies_the_certificate_gets_users() {
    let source = Source::start().await;
    let response = source.get("/api/?results=3&seed=abc").await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let answer: serde_json::Value = response.json().await.unwrap();
    assert_eq!(answer["results"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn a_client_that_does_not_trust_the_certificate_gets_nothing() {
    let source = Source::start().await;
    let url = format!("https://localhost:{}/healthz", source.https.port());
    let stranger = Client::builder().no_proxy().build().unwrap();
    let error = stranger.get(url).send().await.unwrap_err();
    assert!(error.is_connect(), "{error:?}");
}

#[tokio::test]
async fn a_fault_set_over_http_affects_https() {
    let source = Source::start().await;
    let request = source.client.put(format!("http://{}/admin/fault", source.http));
    let fault = json!({"kind": "status", "status": 503, "times": 1});
    assert_eq!(request.json(&fault).send().await.unwrap().status(), StatusCode::NO_CONTENT);
    assert_eq!(source.get("/api/").await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(source.get("/api/").await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_client_that_sends_no_handshake_delays_no_other() {
    let source = Source::start().await;
    let _silent = TcpStream::connect(source.https).await.unwrap();
    assert_eq!(source.get("/healthz").await.unwrap().text().await.unwrap(), "ok");
}

#[tokio::test]
async fn a_file_that_is_no_certificate_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let (certificate, key) = (directory.path().join("tls.crt"), directory.path().join("tls.key"));
    fs::write(&certificate, "").unwrap();
    fs::write(&key, "").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let error = TlsListener::new(listener, &certificate, &key).unwrap_err();
    assert!(error.to_string().contains("tls."), "{error:#}");
}

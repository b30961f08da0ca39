//! What is found out about the TLS session with a server, and the servers of HTTP APIs.

use serde_json::{Value, json};
use userpipeline_api::Consistency;
use userpipeline_stores::{
    cassandra,
    error::{CERTIFICATE_REFUSED, SOURCE_UNREACHABLE, TLS_MISMATCH},
    http, kafka, postgres, schema_registry,
    wire::handshake::TlsSession,
};

use crate::{
    certificates::{Authority, server_config},
    mounted::Mounted,
    postgres_server,
    refused::assert_refused,
    registry_server,
    spec::verify,
};

/// The sessions with a PostgreSQL, and with a server on another port as each of the other stores.
async fn sessions(postgres: u16, other: u16, tls: &Value, mounted: &Mounted) -> [Option<TlsSession>; 5] {
    let (secrets, login) = (mounted.secrets(), json!({"name": "login"}));
    let server = json!({"host": "localhost", "port": postgres, "database": "d", "credentialsSecretRef": login, "tls": tls});
    let brokers = json!({"bootstrapServers": format!("localhost:{other}"), "tls": tls});
    let brokers: userpipeline_api::Kafka = serde_json::from_value(brokers).unwrap();
    let cluster =
        json!({"contactPoints": [format!("localhost:{other}")], "localDatacenter": "d", "credentialsSecretRef": login, "tls": tls});
    let (registry, api) = (format!("https://localhost:{other}/apis"), format!("https://localhost:{other}"));
    let registry = json!({"url": registry, "tls": tls});
    [
        postgres::Connection::new(&serde_json::from_value(server).unwrap(), &secrets)
            .tls_session()
            .await,
        kafka::Connection::new(&brokers.brokers(), &secrets).tls_session().await,
        cassandra::Connection::new(&serde_json::from_value(cluster).unwrap(), Consistency::One, &secrets)
            .tls_session()
            .await,
        schema_registry::Connection::new(&serde_json::from_value(registry).unwrap(), &secrets)
            .tls_session()
            .await,
        http::Connection::new(&api, &serde_json::from_value(tls.clone()).unwrap(), &secrets)
            .tls_session()
            .await,
    ]
}

#[tokio::test]
async fn the_session_with_each_store_shows_version_and_validity() {
    let (authority, other, mounted) = (Authority::new("ours"), Authority::new("other"), Mounted::new());
    mounted.ca(&authority.pem);
    let expires: jiff::Timestamp = "4096-01-01T00:00:00Z".parse().unwrap();
    let config = server_config(&authority.issue(&["localhost"]), None);
    let postgres = postgres_server::serve(Some(config.clone())).await;
    let port = registry_server::serve(Some(config), None).await;
    let expected = TlsSession {
        version: "TLS 1.3".to_owned(),
        not_after: Some(expires.as_second()),
    };
    for found in sessions(postgres, port, &verify(), &mounted).await {
        assert_eq!(found.as_ref(), Some(&expected));
    }

    // Neither of a server that is refused, nor of one without TLS.
    let refused = server_config(&other.issue(&["localhost"]), None);
    let refused = (
        postgres_server::serve(Some(refused.clone())).await,
        registry_server::serve(Some(refused), None).await,
    );
    let plain = (postgres_server::serve(None).await, registry_server::serve(None, None).await);
    for (postgres, port) in [refused, plain] {
        assert_eq!(sessions(postgres, port, &verify(), &mounted).await, [const { None }; 5]);
    }
}

#[tokio::test]
async fn the_server_of_an_api_is_accepted_or_refused_without_a_request() {
    let (authority, other, mounted) = (Authority::new("ours"), Authority::new("other"), Mounted::new());
    mounted.ca(&authority.pem);
    let check = async |scheme: &str, port: u16| {
        let certificates = serde_json::from_value(verify()).unwrap();
        let url = format!("{scheme}://localhost:{port}/api");
        http::Connection::new(&url, &certificates, &mounted.secrets()).verify().await
    };
    let ours = registry_server::serve(Some(server_config(&authority.issue(&["localhost"]), None)), None).await;
    assert_eq!(check("https", ours).await, Ok(()));
    let others = registry_server::serve(Some(server_config(&other.issue(&["localhost"]), None)), None).await;
    assert_refused(
        check("https", others).await,
        CERTIFICATE_REFUSED,
        &[
            "the API at localhost",
            "key `ca.crt` of ConfigMap `ca` (spec.http.tls.ca.configMapKeyRef)",
        ],
    );
    let plain = registry_server::serve(None, None).await;
    assert_eq!(check("http", plain).await, Ok(()));
    assert_refused(
        check("https", plain).await,
        TLS_MISMATCH,
        &["an http:// address in spec.http.baseUrl"],
    );
    // As PostgreSQL does.
    let closing = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = closing.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = closing.accept().await {
            drop(stream);
        }
    });
    assert_refused(check("https", port).await, TLS_MISMATCH, &["does not answer with TLS"]);
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert_eq!(check("http", closed.port()).await.unwrap_err().reason, SOURCE_UNREACHABLE);
}

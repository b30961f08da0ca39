//! Slow servers.

use super::*;

/// With each of these timeouts, the request fails with this error.
async fn times_out(url: &str, cases: &[(serde_json::Value, &str)]) {
    for (timeouts, expected) in cases {
        let mut http = json!({"timeout": "20s", "runDuration": "1s"});
        http.as_object_mut().unwrap().extend(timeouts.as_object().unwrap().clone());
        let start = Instant::now();
        let error = failing(url, http).await;
        assert!(error.contains(expected), "{timeouts}: {error}");
        assert!(start.elapsed() < Duration::from_secs(10), "{timeouts}");
    }
}

/// A server that sends these pieces to each connection, each after so many milliseconds, and keeps it open.
async fn slow(pieces: &'static [(u64, &'static str)]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = connection.read(&mut [0; 4096]).await;
                for (after, piece) in pieces {
                    sleep(Duration::from_millis(*after)).await;
                    let _ = connection.write_all(piece.as_bytes()).await;
                }
                // Until the client goes.
                let _ = connection.read(&mut [0; 1]).await;
            });
        }
    });
    url
}

/// No response.
const SILENT: &[(u64, &str)] = &[];
/// Late headers, then no pause.
const LATE: &[(u64, &str)] = &[(1200, "HTTP/1.1 200 OK\r\ncontent-length: 18\r\n\r\n{\"results\""), (0, ": [1,2]}")];
/// Immediate headers, then a pause.
const STALLS: &[(u64, &str)] = &[(0, "HTTP/1.1 200 OK\r\ncontent-length: 18\r\n\r\n{\"results\""), (1200, ": [1,2]}")];

#[tokio::test]
async fn a_request_without_a_response_fails_after_the_first_byte_timeout() {
    let cases = [
        (
            json!({"firstByteTimeout": "300ms"}),
            "did not respond within 300ms (spec.source.http.firstByteTimeout)",
        ),
        (
            json!({"firstByteTimeout": "300ms", "idleTimeout": "15s"}),
            "did not respond within 300ms (spec.source.http.firstByteTimeout)",
        ),
        (
            json!({"idleTimeout": "300ms"}),
            "did not respond within 300ms (spec.source.http.idleTimeout)",
        ),
        (
            json!({"timeout": "300ms", "firstByteTimeout": "15s"}),
            "did not respond within 300ms (spec.source.http.timeout)",
        ),
        (
            json!({"timeout": "300ms"}),
            "did not respond within 300ms (spec.source.http.timeout)",
        ),
    ];
    times_out(&slow(SILENT).await, &cases).await;
}

#[tokio::test]
async fn a_response_that_stops_fails_after_the_idle_timeout() {
    let url = slow(&[(0, "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"results\": [")]).await;
    let cases = [
        (
            json!({"idleTimeout": "300ms", "firstByteTimeout": "15s"}),
            "cut off after 13 bytes: no data arrived for 300ms (spec.source.http.idleTimeout)",
        ),
        (
            json!({"timeout": "600ms", "firstByteTimeout": "300ms"}),
            "cut off after 13 bytes: it was not complete within 600ms (spec.source.http.timeout)",
        ),
    ];
    times_out(&url, &cases).await;
}

#[tokio::test]
async fn first_byte_and_idle_timeouts_are_independent() {
    for (pieces, timeouts) in [
        (LATE, json!({"firstByteTimeout": "5s", "idleTimeout": "600ms"})),
        (STALLS, json!({"firstByteTimeout": "600ms", "idleTimeout": "5s"})),
    ] {
        let mut http = json!({"timeout": "10s"});
        http.as_object_mut().unwrap().extend(timeouts.as_object().unwrap().clone());
        assert_eq!(next(&mut source(&slow(pieces).await, &http)).await, Ok(2), "{timeouts}");
    }
}

#[tokio::test]
async fn a_server_that_accepts_no_connection_fails_after_the_connect_timeout() {
    // No connection is accepted, and the backlog is full.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let waiting: Vec<_> = (0..16).map(|_| tokio::spawn(tokio::net::TcpStream::connect(address))).collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let cases = [
        (
            json!({"connectTimeout": "300ms"}),
            "accepted no connection within 300ms (spec.source.http.connectTimeout)",
        ),
        // The first-byte timeout includes the connection.
        (
            json!({"connectTimeout": "15s", "firstByteTimeout": "300ms"}),
            "did not respond within 300ms (spec.source.http.firstByteTimeout)",
        ),
    ];
    times_out(&format!("http://{address}/"), &cases).await;
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn the_token_endpoint_has_the_timeouts_of_the_source() {
    let secrets = tempfile::tempdir().unwrap();
    std::fs::create_dir(secrets.path().join("who")).unwrap();
    for key in ["username", "password"] {
        std::fs::write(secrets.path().join("who").join(key), "ann").unwrap();
    }
    for (bound, expected) in [
        (
            "firstByteTimeout",
            "(spec.source.http.auth.oauth2.tokenUrl) did not respond within 300ms (spec.source.http.firstByteTimeout)",
        ),
        (
            "timeout",
            "(spec.source.http.auth.oauth2.tokenUrl) did not respond within 300ms (spec.source.http.timeout)",
        ),
    ] {
        let mut http = json!({
            "url": "http://127.0.0.1:1/", "runDuration": "1s", "timeout": "20s",
            "auth": {"oauth2": {"tokenUrl": slow(SILENT).await, "credentialsSecretRef": {"name": "who"}}},
        });
        http[bound] = json!("300ms");
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut source = Source::new(&serde_json::from_value(http).unwrap(), &Secrets::in_dir(secrets.path())).unwrap();
        let Err(FetchEnd::SourceFailed { error, .. }) = next(&mut source).await else {
            panic!("{bound}")
        };
        assert!(error.contains(expected), "{bound}: {error}");
    }
}

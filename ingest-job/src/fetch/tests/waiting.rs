//! Servers that let their clients wait.

use super::*;

/// Waiting in vain ends with these words, for each of these time-outs.
async fn waits_in_vain(url: &str, cases: &[(serde_json::Value, &str)]) {
    for (bounds, says) in cases {
        let mut http = json!({"timeout": "20s", "runDuration": "1s"});
        http.as_object_mut().unwrap().extend(bounds.as_object().unwrap().clone());
        let start = Instant::now();
        let error = failing(url, http).await;
        assert!(error.contains(says), "{bounds}: {error}");
        assert!(start.elapsed() < Duration::from_secs(10), "{bounds}");
    }
}

/// A server that gives each connection these pieces, each after so many milliseconds, and keeps it.
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

/// No answer.
const SILENT: &[(u64, &str)] = &[];
/// An answer that comes late, and then at once.
const THINKS: &[(u64, &str)] = &[(1200, "HTTP/1.1 200 OK\r\ncontent-length: 18\r\n\r\n{\"results\""), (0, ": [1,2]}")];
/// An answer that begins at once, and goes on late.
const STALLS: &[(u64, &str)] = &[(0, "HTTP/1.1 200 OK\r\ncontent-length: 18\r\n\r\n{\"results\""), (1200, ": [1,2]}")];

#[tokio::test]
async fn a_source_that_begins_no_answer_is_given_up_after_the_time_to_the_first_byte() {
    let cases = [
        (
            json!({"firstByteTimeout": "300ms"}),
            "gave no answer within 300ms (spec.source.http.firstByteTimeout)",
        ),
        (
            json!({"firstByteTimeout": "300ms", "idleTimeout": "15s"}),
            "gave no answer within 300ms (spec.source.http.firstByteTimeout)",
        ),
        (
            json!({"idleTimeout": "300ms"}),
            "gave no answer within 300ms (spec.source.http.idleTimeout)",
        ),
        (
            json!({"timeout": "300ms", "firstByteTimeout": "15s"}),
            "gave no answer within 300ms (spec.source.http.timeout)",
        ),
        (
            json!({"timeout": "300ms"}),
            "gave no answer within 300ms (spec.source.http.timeout)",
        ),
    ];
    waits_in_vain(&slow(SILENT).await, &cases).await;
}

#[tokio::test]
async fn a_source_that_stops_in_the_middle_is_given_up_after_the_idle_time() {
    let url = slow(&[(0, "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"results\": [")]).await;
    let cases = [
        (
            json!({"idleTimeout": "300ms", "firstByteTimeout": "15s"}),
            "cut off after 13 bytes: nothing came for 300ms (spec.source.http.idleTimeout)",
        ),
        (
            json!({"timeout": "600ms", "firstByteTimeout": "300ms"}),
            "cut off after 13 bytes: it was not complete within 600ms (spec.source.http.timeout)",
        ),
    ];
    waits_in_vain(&url, &cases).await;
}

#[tokio::test]
async fn a_source_may_think_for_long_and_then_be_quick_or_be_quick_and_then_slow() {
    for (pieces, bounds) in [
        (THINKS, json!({"firstByteTimeout": "5s", "idleTimeout": "600ms"})),
        (STALLS, json!({"firstByteTimeout": "600ms", "idleTimeout": "5s"})),
    ] {
        let mut http = json!({"timeout": "10s"});
        http.as_object_mut().unwrap().extend(bounds.as_object().unwrap().clone());
        assert_eq!(next(&mut source(&slow(pieces).await, &http)).await, Ok(2), "{bounds}");
    }
}

#[tokio::test]
async fn a_source_that_takes_no_connection_is_given_up_after_the_time_to_connect() {
    // Nobody accepts, and the queue of those who wait for that is full.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let waiting: Vec<_> = (0..16).map(|_| tokio::spawn(tokio::net::TcpStream::connect(address))).collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let cases = [
        (
            json!({"connectTimeout": "300ms"}),
            "took no connection within 300ms (spec.source.http.connectTimeout)",
        ),
        // A connection is made for the first byte.
        (
            json!({"connectTimeout": "15s", "firstByteTimeout": "300ms"}),
            "gave no answer within 300ms (spec.source.http.firstByteTimeout)",
        ),
    ];
    waits_in_vain(&format!("http://{address}/"), &cases).await;
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn an_address_that_gives_no_token_is_not_waited_for_longer_than_the_source() {
    let secrets = tempfile::tempdir().unwrap();
    std::fs::create_dir(secrets.path().join("who")).unwrap();
    for key in ["username", "password"] {
        std::fs::write(secrets.path().join("who").join(key), "ann").unwrap();
    }
    for (bound, says) in [
        (
            "firstByteTimeout",
            "(spec.source.http.auth.oauth2.tokenUrl) gave no answer within 300ms (spec.source.http.firstByteTimeout)",
        ),
        (
            "timeout",
            "(spec.source.http.auth.oauth2.tokenUrl) gave no answer within 300ms (spec.source.http.timeout)",
        ),
    ] {
        let mut http = json!({
            "url": "http://127.0.0.1:1/", "runDuration": "1s", "timeout": "20s",
            "auth": {"oauth2": {"tokenUrl": slow(SILENT).await, "credentialsSecretRef": {"name": "who"}}},
        });
        http[bound] = json!("300ms");
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut source = Source::new(&serde_json::from_value(http).unwrap(), &Secrets::in_dir(secrets.path())).unwrap();
        let Err(End::SourceFailed { error, .. }) = next(&mut source).await else {
            panic!("{bound}")
        };
        assert!(error.contains(says), "{bound}: {error}");
    }
}

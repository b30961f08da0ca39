//! Servers that let their clients wait.

use super::*;

/// Asks a server that lets its clients wait; how long the first try took is told by the error coming at all.
async fn waits_in_vain(url: &str, bound: &str) {
    let mut http = json!({"timeout": "10m", "runDuration": "1s"});
    http[bound] = json!("300ms");
    let start = Instant::now();
    let error = failing(url, http).await;
    assert!(error.contains(bound), "{bound}: {error}");
    assert!(start.elapsed() < Duration::from_secs(10), "{bound}");
}

/// A server that begins an answer with this, says nothing more, and keeps the connection.
async fn silent(beginning: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut connection, _)) = listener.accept().await {
            let _ = connection.read(&mut [0; 4096]).await;
            let _ = connection.write_all(beginning.as_bytes()).await;
            held.push(connection);
        }
    });
    url
}

#[tokio::test]
async fn a_source_that_begins_no_answer_is_given_up_after_the_idle_time() {
    waits_in_vain(&silent("").await, "idleTimeout").await;
}

#[tokio::test]
async fn a_source_that_stops_in_the_middle_is_given_up_after_the_idle_time() {
    let url = silent("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"results\": [").await;
    waits_in_vain(&url, "idleTimeout").await;
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
    waits_in_vain(&format!("http://{address}/"), "connectTimeout").await;
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
}

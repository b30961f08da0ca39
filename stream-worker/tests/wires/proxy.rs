//! A proxy in front of a server, which closes the connection at a message of the client.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

/// The message at which the connection ends, from 0.
#[derive(Clone, Copy, Debug)]
pub enum Cut {
    /// The server does not receive it.
    Before(usize),
    /// The server receives it, and the client no answer.
    After(usize),
}

/// Set with [`Proxy::set`]; taken when the connection is cut.
type Next = Arc<Mutex<Option<Cut>>>;

pub struct Proxy {
    address: SocketAddr,
    next: Next,
}

impl Proxy {
    pub async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let next = Next::default();
        let cut = Arc::clone(&next);
        tokio::spawn(async move {
            let (client, _) = listener.accept().await.unwrap();
            let (from_client, mut to_client) = client.into_split();
            let (mut from_server, to_server) = TcpStream::connect(server).await.unwrap().into_split();
            tokio::select! {
                () = forward(from_client, to_server, &cut) => {}
                _ = copy(&mut from_server, &mut to_client) => {}
            }
        });
        Self { address, next }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Counts messages from now on.
    pub fn set(&self, cut: Cut) {
        *self.next.lock().unwrap() = Some(cut);
    }

    pub fn has_cut(&self) -> bool {
        self.next.lock().unwrap().is_none()
    }
}

/// Until one side closes, or the connection is cut. What the client sends at once is a message.
async fn forward(mut client: OwnedReadHalf, mut server: OwnedWriteHalf, next: &Next) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(size @ 1..) = client.read(&mut buffer).await {
        let cut = count_down(next);
        if matches!(cut, Some(Cut::Before(_))) || server.write_all(&buffer[..size]).await.is_err() || cut.is_some() {
            return;
        }
    }
}

/// The cut, if it is due.
fn count_down(next: &Next) -> Option<Cut> {
    let mut next = next.lock().unwrap();
    match next.as_mut() {
        Some(Cut::Before(0) | Cut::After(0)) => next.take(),
        Some(Cut::Before(left) | Cut::After(left)) => {
            *left -= 1;
            None
        }
        None => None,
    }
}

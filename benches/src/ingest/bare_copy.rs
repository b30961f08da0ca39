//! The ceiling of landing: a bare COPY of the same rows, prepared in memory, over one encrypted connection.

use std::{pin::pin, time::Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use tokio_postgres::Client;

/// Bytes of a message.
const PIECE: usize = 256 << 10;

/// Copies the rows of a landing table into a table with the same columns and without indexes. Returns records per second.
pub async fn measure(db: &Client, landing: &str, records: usize) -> Result<f64> {
    let rows = read(db, landing).await?;
    let copy = format!("{landing}_copy");
    db.batch_execute(&format!("CREATE TABLE \"{copy}\" (LIKE \"{landing}\")")).await?;
    let started = Instant::now();
    let copied = write(db, &copy, rows).await;
    let seconds = started.elapsed().as_secs_f64();
    db.batch_execute(&format!("DROP TABLE \"{copy}\"")).await?;
    ensure!(copied? == records as u64, "not all of {records} rows were copied");
    #[allow(clippy::cast_precision_loss)] // A count.
    Ok(records as f64 / seconds)
}

async fn read(db: &Client, table: &str) -> Result<Vec<Bytes>> {
    let stream = db.copy_out(&format!("COPY \"{table}\" TO STDOUT BINARY")).await?;
    let mut stream = pin!(stream);
    let (mut pieces, mut piece) = (Vec::new(), Vec::with_capacity(PIECE));
    while let Some(rows) = stream.next().await {
        piece.extend_from_slice(&rows?);
        if piece.len() >= PIECE {
            pieces.push(Bytes::from(std::mem::replace(&mut piece, Vec::with_capacity(PIECE))));
        }
    }
    pieces.push(piece.into());
    Ok(pieces)
}

async fn write(db: &Client, table: &str, rows: Vec<Bytes>) -> Result<u64> {
    let sink = db.copy_in(&format!("COPY \"{table}\" FROM STDIN BINARY")).await?;
    let mut sink = pin!(sink);
    for piece in rows {
        sink.send(piece).await?;
    }
    sink.finish().await.context("COPY")
}

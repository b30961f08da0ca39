//! The ceiling: Cassandra's driver alone, with the same rows, ready in memory.

use std::{io::Read, time::Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use scylla::{
    client::{session::Session, session_builder::SessionBuilder},
    serialize::row::SerializeRow,
    statement::{
        batch::{Batch, BatchType},
        prepared::PreparedStatement,
    },
    value::CqlTimestamp,
};
use serde_json::Value;
use userpipeline_benches::process::cpu_seconds;

use super::messages::Reading;

/// Concurrent requests, as many as a worker has.
const IN_FLIGHT: usize = 256;

/// Writes rows with Cassandra's driver alone, and prints rows per second and CPU time per row. It runs in the network of the node,
/// and reads `{"node", "username", "password", "table"}` from its standard input.
#[derive(Args)]
pub struct Driver {
    #[arg(long)]
    rows: u64,
    /// Rows of an unlogged batch; 1 for single inserts.
    #[arg(long)]
    batch: usize,
}

pub async fn run(arguments: &Driver) -> Result<()> {
    let mut input = String::new();
    std::io::stdin().read_to_string(&mut input)?;
    let target: Value = serde_json::from_str(&input)?;
    let text = |name: &str| target[name].as_str().with_context(|| format!("no {name}"));
    let session = SessionBuilder::new()
        .known_node(text("node")?)
        .user(text("username")?, text("password")?)
        .build()
        .await?;
    let insert = format!(
        "INSERT INTO {} (id, revision, username, email, given_name, family_name, city, country, postcode, age, score, registered, active, note) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        text("table")?
    );
    let insert = session.prepare(insert).await?;
    let readings: &'static [Reading] = (0..arguments.rows).map(Reading::new).collect::<Vec<_>>().leak();
    let mut batch = Batch::new(BatchType::Unlogged);
    for _ in 0..arguments.batch {
        batch.append_statement(insert.clone());
    }
    ensure!(
        readings.len().is_multiple_of(arguments.batch),
        "the rows are no whole number of batches"
    );
    write(&session, &insert, &batch, readings).await
}

/// The values of the insert.
fn values(reading: &Reading) -> impl SerializeRow {
    let [username, email, given_name, family_name, city, country, postcode] = reading.texts.each_ref().map(String::as_str);
    let Reading {
        id,
        revision,
        age,
        score,
        registered,
        active,
        note,
        ..
    } = reading;
    (
        id,
        revision,
        username,
        email,
        given_name,
        family_name,
        city,
        country,
        postcode,
        age,
        score,
        CqlTimestamp(*registered),
        active,
        note,
    )
}

async fn write(session: &Session, insert: &PreparedStatement, batch: &Batch, readings: &[Reading]) -> Result<()> {
    let cpu = || cpu_seconds(std::process::id()).unwrap_or(f64::NAN);
    let (started, before) = (Instant::now(), cpu());
    stream::iter(readings.chunks(batch.statements.len()))
        .map(|chunk| async move {
            if let [one] = chunk {
                session.execute_unpaged(insert, values(one)).await.map(drop)
            } else {
                session.batch(batch, chunk.iter().map(values).collect::<Vec<_>>()).await.map(drop)
            }
        })
        .buffer_unordered(IN_FLIGHT)
        .try_collect::<()>()
        .await?;
    #[allow(clippy::cast_precision_loss)] // a count
    let rows = readings.len() as f64;
    println!("{} {}", rows / started.elapsed().as_secs_f64(), (cpu() - before) / rows * 1e6);
    Ok(())
}

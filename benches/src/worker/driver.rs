//! The ceiling: Cassandra's driver alone, with the same rows, ready in memory.

use std::{io::Read, time::Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use scylla::{
    client::session_builder::SessionBuilder,
    statement::batch::{Batch, BatchType},
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
    let readings: Vec<Reading> = (0..arguments.rows).map(Reading::new).collect();
    let values = |r: &'static Reading| {
        let [a, b, c, d, e, f, g] = &r.texts;
        let (a, b, c, d, e, f, g) = (a.as_str(), b.as_str(), c.as_str(), d.as_str(), e.as_str(), f.as_str(), g.as_str());
        let registered = CqlTimestamp(r.registered);
        (
            r.id,
            r.revision,
            a,
            b,
            c,
            d,
            e,
            f,
            g,
            r.age,
            r.score,
            registered,
            r.active,
            r.note.as_str(),
        )
    };
    let readings: &'static [Reading] = readings.leak();
    let mut batch = Batch::new(BatchType::Unlogged);
    for _ in 0..arguments.batch {
        batch.append_statement(insert.clone());
    }
    ensure!(readings.len() % arguments.batch == 0, "the rows are no whole number of batches");
    let cpu = || cpu_seconds(std::process::id()).unwrap_or(f64::NAN);
    let (started, before) = (Instant::now(), cpu());
    let (session, insert, batch) = (&session, &insert, &batch);
    stream::iter(readings.chunks(arguments.batch))
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

//! Throughput of one worker with TLS against plain text: the same backlog of JSON messages into both sinks, in turns.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};
use tokio::time::sleep;
use userpipeline_api::names;
use userpipeline_tests::{
    World, eventually,
    exact::node::Node,
    services::{PLAIN_CREDENTIALS, in_plain_text},
    stores,
    topic_source::from_topic,
    world::SOON,
};

const PARTITIONS: i32 = 6;
/// Messages that are produced at once.
const CHUNK: usize = 20_000;
const BACKLOG: Duration = Duration::from_secs(600);
/// Of the kernel's clock, which counts the CPU time of processes.
const TICKS_PER_SECOND: f64 = 100.0;

/// Measures the throughput of a worker with TLS and in plain text.
#[derive(Parser)]
struct Arguments {
    /// Messages of a round.
    #[arg(long, default_value_t = 200_000)]
    rows: usize,
    /// Rounds of each kind.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

#[derive(Clone, Copy)]
struct Round {
    rows_per_second: f64,
    /// CPU time of the worker, in microseconds.
    cpu_per_row: f64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let (mut plain, mut encrypted) = (Vec::new(), Vec::new());
    for _ in 0..arguments.rounds {
        for (name, rounds) in [("plain text", &mut plain), ("TLS", &mut encrypted)] {
            let round = Box::pin(measure(name == "TLS", arguments.rows)).await?;
            println!(
                "{name}: {:.0} rows/s, {:.1} µs of CPU a row",
                round.rows_per_second, round.cpu_per_row
            );
            rounds.push(round);
        }
    }
    let of = |rounds: &[Round], value: fn(&Round) -> f64| median(rounds.iter().map(value).collect());
    println!(
        "TLS against plain text, medians of {} rounds of {} rows: {:.2} of the throughput, {:.2} of the CPU time",
        arguments.rounds,
        arguments.rows,
        of(&encrypted, |round| round.rows_per_second) / of(&plain, |round| round.rows_per_second),
        of(&encrypted, |round| round.cpu_per_row) / of(&plain, |round| round.cpu_per_row),
    );
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A pipeline that reads JSON from its topic, without workers.
fn pipeline(world: &World, encrypted: bool) -> Value {
    let mut pipeline = world.pipeline();
    if !encrypted {
        pipeline = in_plain_text(pipeline, Some(&json!({"mode": "Disable"})));
    }
    let mut pipeline = from_topic(pipeline, PARTITIONS);
    pipeline["spec"]["workers"] = json!({"replicas": 0});
    pipeline
}

#[allow(clippy::cast_precision_loss)] // counts
async fn measure(encrypted: bool, rows: usize) -> Result<Round> {
    // Given a backlog
    let world = World::new(if encrypted { "bench-tls" } else { "bench-plain" }).await?;
    world.copy_credentials(PLAIN_CREDENTIALS).await?;
    let mut pipeline = pipeline(&world, encrypted);
    world.apply(&pipeline).await?;
    world.condition("SchemaReady", "True", SOON).await?;
    produce(&world, rows).await?;

    // When a worker starts, its throughput counts from the first stored batch on
    pipeline["spec"]["workers"]["replicas"] = json!(1);
    world.apply(&pipeline).await?;
    let db = stores::postgres(&world.client).await?;
    let group = names::group_id(&world.id());
    let statement = format!("SELECT coalesce(sum(stored), 0)::bigint FROM userpipeline.progress WHERE group_id = '{group}'");
    let started = Instant::now();
    let mut first = None;
    let (elapsed, before) = loop {
        let stored = usize::try_from(stores::number(&db, &statement).await?)?;
        if stored > 0 {
            let (at, before) = *first.get_or_insert((Instant::now(), stored));
            if stored >= rows {
                break (at.elapsed(), before);
            }
        }
        ensure!(started.elapsed() < BACKLOG, "{stored} of {rows} rows are stored after {BACKLOG:?}");
        sleep(Duration::from_millis(20)).await;
    };
    let pod = world.pods("worker").await?.into_iter().next().context("a worker")?;
    let cpu = cpu_seconds(&pod).await?;
    world.clean_up().await?;
    Ok(Round {
        rows_per_second: (rows - before) as f64 / elapsed.as_secs_f64(),
        cpu_per_row: cpu / rows as f64 * 1e6,
    })
}

async fn produce(world: &World, rows: usize) -> Result<()> {
    let topic = names::topic(&world.id());
    eventually("the topic", SOON, async || {
        let topics = stores::topics().await?;
        Ok(if topics.contains(&topic) {
            Ok(())
        } else {
            Err(format!("{topics:?}"))
        })
    })
    .await?;
    let message = |n: usize| {
        let value = json!({"id": format!("reading {n}"), "revision": 1, "name": format!("a name of some length for {n}")});
        (n.to_string(), value.to_string().into_bytes(), None)
    };
    for from in (0..rows).step_by(CHUNK) {
        let chunk = (from..rows.min(from + CHUNK)).map(message);
        stores::produce(&topic, chunk.collect()).await?;
    }
    Ok(())
}

/// The CPU time of a worker since its start, in seconds.
async fn cpu_seconds(pod: &Pod) -> Result<f64> {
    let node = Node::enter()?;
    let uid = pod.uid().context("a uid")?;
    let pids = node.processes(&uid, "stream-worker").await?;
    let pid = pids.first().context("the worker's process")?;
    // Its name, the second field, has no space.
    let ticks: f64 = node.run(&format!("awk '{{ print $14 + $15 }}' /proc/{pid}/stat")).await?.parse()?;
    Ok(ticks / TICKS_PER_SECOND)
}

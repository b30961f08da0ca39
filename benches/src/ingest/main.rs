//! Measures a run that fetches, maps, lands and publishes users: `bench-ingest --program PATH`, against the local cluster.
//!
//! With several programs, they take turns. Each line is `NAME: MEASURED (target T) ok|short`; the exit code is 1 if any is short.

mod process;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Result, ensure};
use clap::Parser;
use randomuser_source::{Config, serve};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use userpipeline_tests::{World, cluster::host, services::Mounted, stores, world::SOON};

use self::process::Measured;

/// As many as the source serves in one page.
const PAGE: usize = 5000;
/// Microseconds.
const TARGET_CPU: f64 = 30.0;
/// MiB.
const TARGET_MEMORY: f64 = 40.0;

/// What a run costs.
#[derive(Parser)]
struct Arguments {
    /// Path of a release build of ingest-job. Several take turns.
    #[arg(long, required = true)]
    program: Vec<PathBuf>,
    /// Pages of 5,000 users, about 5.5 MB each.
    #[arg(long, default_value_t = 40)]
    pages: usize,
    /// Rounds of each program.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let stop = CancellationToken::new();
    let source = start_source(&stop).await?;
    let users = PAGE * arguments.pages;
    let mut rounds: Vec<Vec<Measured>> = arguments.program.iter().map(|_| Vec::new()).collect();
    for _ in 0..arguments.rounds {
        for (program, rounds) in arguments.program.iter().zip(&mut rounds) {
            let measured = Box::pin(measure(program, source, users)).await?;
            println!("{}: {}", program.display(), measured.per(users));
            rounds.push(measured);
        }
    }
    stop.cancel();
    let mut ok = true;
    for (program, rounds) in arguments.program.iter().zip(&rounds) {
        println!("{}, medians of {} rounds of {users} users:", program.display(), rounds.len());
        ok &= report(
            "CPU to fetch, map and land a record, µs",
            TARGET_CPU,
            rounds.iter().map(|r| r.cpu_per(users)),
        );
        ok &= report("peak memory, MiB", TARGET_MEMORY, rounds.iter().map(Measured::peak_mebibytes));
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn report(name: &str, target: f64, values: impl Iterator<Item = f64>) -> bool {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let median = values.get(values.len() / 2).copied().unwrap_or(f64::NAN);
    let ok = median <= target;
    println!("{name}: {median:.1} (target {target:.0}) {}", if ok { "ok" } else { "short" });
    ok
}

/// The stand-in source without a limit, on this machine.
async fn start_source(stop: &CancellationToken) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let config = Config {
        limit_users: 0,
        limit_window: Duration::from_secs(60),
        hang_cap: Duration::from_secs(60),
        max_in_flight: 16,
    };
    tokio::spawn(serve(listener, None, config, stop.clone()));
    Ok(address)
}

async fn measure(program: &std::path::Path, source: SocketAddr, users: usize) -> Result<Measured> {
    // Given the stores of a pipeline without workers
    let world = World::new("bench-ingest").await?;
    let mut pipeline = pipeline(&world, source, users);
    world.apply(&pipeline).await?;
    world.condition("SchemaReady", "True", SOON).await?;

    // When a run happens on this machine
    on_this_machine(&mut pipeline);
    let mounted = Mounted::new(&world.client, &[]).await?;
    let file = mounted.folder().join("pipeline.yaml");
    std::fs::write(&file, pipeline.to_string())?;
    let measured = process::run(program, &file, mounted.folder()).await?;

    // Then everything has landed
    let db = stores::postgres(&world.client).await?;
    let statement = format!(
        "SELECT coalesce(sum(landed), 0)::bigint FROM userpipeline.runs WHERE pipeline = '{}'",
        world.id()
    );
    let landed = stores::number(&db, &statement).await?;
    ensure!(usize::try_from(landed)? == users, "{landed} of {users} users have landed");
    world.clean_up().await?;
    Ok(measured)
}

fn pipeline(world: &World, source: SocketAddr, users: usize) -> Value {
    let mut pipeline = world.pipeline();
    pipeline["spec"]["workers"] = json!({"replicas": 0});
    pipeline["spec"]["source"] = json!({"http": {
        "url": format!("http://{source}/api/"),
        "query": [{"name": "results", "value": PAGE.to_string()}],
        "pagination": {"type": "Repeat"}, "runDuration": "10m", "maxRecordsPerRun": users
    }});
    pipeline
}

/// Replaces the services' addresses in the cluster.
fn on_this_machine(pipeline: &mut Value) {
    let spec = &mut pipeline["spec"];
    spec["postgres"]["host"] = json!(host::POSTGRES.0);
    spec["postgres"]["port"] = json!(host::POSTGRES.1);
    spec["kafka"]["bootstrapServers"] = json!(host::KAFKA);
    spec["schemaRegistry"]["url"] = json!(host::REGISTRY);
}

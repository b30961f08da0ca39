//! Measures a run that fetches, maps, lands and publishes users: `bench-ingest --program PATH`, against the local cluster.
//!
//! With several programs, they take turns, and with them a bare COPY of the same rows, and dlt, which loads the same pages. Each line
//! is `NAME: MEASURED (target T) ok|short`; the exit code is 1 if any is short.

mod bare_copy;
mod pages;
mod peer;
mod process;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Result, ensure};
use clap::Parser;
use serde_json::{Value, json};
use userpipeline_api::names;
use userpipeline_benches::report::{Report, Target, median};
use userpipeline_tests::{World, cluster::host, services::Mounted, stores, world::SOON};

use self::process::Measured;

/// As many as the source serves in one page.
const PAGE: usize = 5000;
/// Microseconds.
const MOST_CPU: f64 = 20.0;
/// MiB.
const MOST_MEMORY: f64 = 40.0;
/// Of the records per second of a bare COPY.
const LEAST_OF_COPY: f64 = 0.5;
/// Times the records per second of dlt.
const LEAST_OF_DLT: f64 = 5.0;

/// What a run costs.
#[derive(Parser)]
struct Arguments {
    /// Path of a release build of ingest-job. Several take turns.
    #[arg(long, required = true)]
    program: Vec<PathBuf>,
    /// Pages of 5,000 users, about 5.5 MB each.
    #[arg(long, default_value_t = 20)]
    pages: usize,
    /// Pages that dlt loads: more give the same records per second, and take minutes.
    #[arg(long, default_value_t = 4)]
    peer_pages: usize,
    /// Rounds of each program.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only the programs: neither a bare COPY nor dlt.
    #[arg(long)]
    alone: bool,
}

/// Records per second of what a run is compared with.
#[derive(Default)]
struct Compared {
    copy: Vec<f64>,
    dlt: Vec<f64>,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let source = pages::start(arguments.pages, PAGE).await?;
    let users = PAGE * arguments.pages;
    let mut rounds: Vec<Vec<Measured>> = arguments.program.iter().map(|_| Vec::new()).collect();
    let mut compared = Compared::default();
    for _ in 0..arguments.rounds {
        for (program, rounds) in arguments.program.iter().zip(&mut rounds) {
            let measured = Box::pin(round(program, source, users, &arguments, &mut compared)).await?;
            println!("{}: {}", program.display(), measured.per(users));
            rounds.push(measured);
        }
    }
    let mut report = Report::default();
    for (program, rounds) in arguments.program.iter().zip(&rounds) {
        println!("{}, medians of {} rounds of {users} users:", program.display(), rounds.len());
        add(&mut report, rounds, users, &compared);
    }
    Ok(report.exit_code())
}

/// Prints the lines of a program.
fn add(report: &mut Report, rounds: &[Measured], users: usize, compared: &Compared) {
    let rate = median(rounds.iter().map(|r| r.per_second(users)));
    report.add(
        "CPU to fetch, map and land a record, µs",
        median(rounds.iter().map(|r| r.cpu_per(users))),
        Target::AtMost(MOST_CPU),
    );
    report.add(
        "peak memory, MiB",
        median(rounds.iter().map(|r| r.peak)),
        Target::AtMost(MOST_MEMORY),
    );
    for (name, others, target) in [
        ("a bare COPY of the same rows", &compared.copy, LEAST_OF_COPY),
        ("dlt loading the same pages", &compared.dlt, LEAST_OF_DLT),
    ] {
        if others.is_empty() {
            continue;
        }
        let other = median(others.iter().copied());
        println!("records per second: {rate:.0}, and of {name} {other:.0}");
        report.add(&format!("records per second against {name}"), rate / other, Target::AtLeast(target));
    }
}

/// A run, and what it is compared with.
async fn round(program: &Path, source: SocketAddr, users: usize, arguments: &Arguments, compared: &mut Compared) -> Result<Measured> {
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

    if !arguments.alone {
        let table = names::landing_table(&world.id());
        compared.copy.push(bare_copy::measure(&db, &table, users).await?);
        compared
            .dlt
            .push(peer::measure(&world, &db, source, arguments.peer_pages, PAGE).await?);
    }
    world.clean_up().await?;
    Ok(measured)
}

fn pipeline(world: &World, source: SocketAddr, users: usize) -> Value {
    let mut pipeline = world.pipeline();
    pipeline["spec"]["workers"] = json!({"replicas": 0});
    pipeline["spec"]["source"] = json!({"http": {
        "url": format!("http://{source}/api/"),
        "query": [{"name": "results", "value": PAGE.to_string()}],
        // By default, a run requests one page a second.
        "rateLimit": {"requests": 1000, "per": "1s"},
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

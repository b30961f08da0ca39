//! Measures a worker: `bench-worker run --program PATH`, against the local cluster. `bench-worker curves` has no targets.
//!
//! Each target is a line `NAME: MEASURED (target T) ok|short`; the exit code is 1 if any is short.

mod avro;
mod backlog;
mod curves;
mod driver;
mod kind;
mod latency;
mod messages;
mod mirror;
mod round;
mod spark;
mod steady;
mod subject;
mod targets;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use anyhow::Result;
use clap::{Parser, Subcommand};
use userpipeline_benches::report::Report;

use self::{
    backlog::Backlog,
    curves::Curves,
    driver::Driver,
    kind::Kind,
    spark::{Mode, Spark},
    subject::{Setting, Sinks, Subject},
};

/// Messages to one stream that are followed through it.
const LIVE: Duration = Duration::from_secs(30);

#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(Arguments),
    Curves(Curves),
    Driver(Driver),
}

/// Measures what a worker costs.
#[derive(clap::Args)]
struct Arguments {
    /// Path of a release build of stream-worker. Several take turns; the first one has to reach the targets.
    #[arg(long, required = true)]
    program: Vec<PathBuf>,
    /// Messages of a round; Spark is measured after its first 250,000.
    #[arg(long, default_value_t = 400_000)]
    rows: u64,
    /// Rounds of each kind, which take turns.
    #[arg(long, default_value_t = 2)]
    rounds: usize,
    /// What to measure; all of it by default.
    #[arg(long, value_enum)]
    only: Vec<Kind>,
    /// Measures no latencies.
    #[arg(long)]
    no_latency: bool,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    match Cli::parse().command {
        Command::Run(arguments) => Box::pin(bench(&arguments)).await,
        Command::Curves(arguments) => Box::pin(curves::run(&arguments)).await.map(|()| ExitCode::SUCCESS),
        Command::Driver(arguments) => driver::run(&arguments).await.map(|()| ExitCode::SUCCESS),
    }
}

async fn bench(arguments: &Arguments) -> Result<ExitCode> {
    let mut report = Report::default();
    let backlog = Box::pin(Backlog::create(arguments.rows, &arguments.only)).await?;
    let mut measured = targets::Measured::default();
    for _ in 0..arguments.rounds {
        Box::pin(backlog.round(&arguments.program, &mut measured)).await?;
    }
    if !arguments.no_latency {
        if measures(&arguments.only, Kind::Both) {
            Box::pin(latencies(arguments, &backlog, &mut measured)).await?;
        }
        if let Some(subject) = &backlog.mirrored {
            Box::pin(mirror_delay(arguments, subject, &mut measured)).await?;
        }
    }
    backlog.remove().await?;
    measured.report(&mut report);
    Ok(report.exit_code())
}

/// Whether a kind is measured. `only`: all of them if it is empty.
fn measures(only: &[Kind], kind: Kind) -> bool {
    only.is_empty() || only.contains(&kind)
}

async fn latencies(arguments: &Arguments, backlog: &Backlog, measured: &mut targets::Measured) -> Result<()> {
    let subject = &backlog.json;
    let next = AtomicU64::new(arguments.rows);
    if measures(&arguments.only, Kind::SparkBoth) {
        subject.reset().await?;
        let spark = Spark::start(subject, Sinks::Both, Mode::Live).await?;
        let of_spark = latency::measure(subject, &subject.append_table(), &next, LIVE).await?;
        println!(
            "latency of Spark: p50 {:.1} ms, p99 {:.1} ms; a COMMIT and an insert take {:.1} ms",
            of_spark.p50, of_spark.p99, of_spark.bare
        );
        spark.stop(subject).await?;
    }
    for program in &arguments.program {
        let worker = round::drained(subject, &live(program)).await?;
        let (first, before) = (next.load(Ordering::Relaxed), worker.cpu_seconds());
        let found = latency::measure(subject, &subject.postgres_table(), &next, LIVE).await?;
        let cpu = worker.cpu_seconds().zip(before).map_or(f64::NAN, |(after, before)| after - before);
        #[allow(clippy::cast_precision_loss)] // a count
        let rows = (next.load(Ordering::Relaxed) - first) as f64;
        println!(
            "latency of {}: p50 {:.1} ms, p99 {:.1} ms; a COMMIT and an insert take {:.1} ms; {:.1} µs of CPU a row, {:.1} MiB",
            program.display(),
            found.p50,
            found.p99,
            found.bare,
            cpu / rows * 1e6,
            worker.peak().unwrap_or(f64::NAN)
        );
        worker.stop().await?;
        if *program == arguments.program[0] {
            measured.latency = Some(found);
        }
    }
    Ok(())
}

/// How a worker is run on messages that come steadily.
const fn live(program: &Path) -> Setting<'_> {
    Setting {
        program,
        sinks: Sinks::Both,
        encrypted: true,
        filtered: false,
        workers: 1,
        batch: None,
    }
}

async fn mirror_delay(arguments: &Arguments, subject: &Subject, measured: &mut targets::Measured) -> Result<()> {
    let next = AtomicU64::new(arguments.rows);
    let worker = round::drained(subject, &live(&arguments.program[0])).await?;
    let delay = mirror::measure(subject, &next, 2 * LIVE).await?;
    println!(
        "totals from PostgreSQL to Cassandra: p50 {:.2} s, p99 {:.2} s of {} changes; {:.1} MiB",
        delay.p50,
        delay.p99,
        delay.changes,
        worker.peak().unwrap_or(f64::NAN)
    );
    worker.stop().await?;
    measured.mirror = Some(delay);
    Ok(())
}

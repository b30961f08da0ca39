//! The stream worker's command line.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use stream_worker::apply_schema;
use tracing_subscriber::EnvFilter;
use userpipeline_api::report::TERMINATION_LOG;
use userpipeline_stores::Secrets;

/// Brings a pipeline's records from its topic to its sinks.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes or mends topic, subject and tables, and ends.
    ApplySchema(ApplySchema),
}

#[derive(Args)]
struct Handed {
    /// The pipeline's file: the resource, as a user applies it.
    #[arg(long)]
    pipeline: PathBuf,
    /// The folder that holds the Secrets, each key a file: DIR/<secret>/<key>.
    #[arg(long)]
    secrets: PathBuf,
}

#[derive(Args)]
struct ApplySchema {
    #[command(flatten)]
    handed: Handed,
    /// Where the outcome is left, as JSON.
    #[arg(long, default_value = TERMINATION_LOG)]
    termination_log: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().json().with_env_filter(filter).flatten_event(true).init();
    // It fails only where one is installed already, and that one serves.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match Cli::parse().command {
        Command::ApplySchema(args) => {
            let secrets = Secrets::in_dir(&args.handed.secrets);
            ExitCode::from(Box::pin(apply_schema::run(&args.handed.pipeline, &secrets, &args.termination_log)).await)
        }
    }
}

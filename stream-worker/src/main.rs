//! The stream worker's command line.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc};

use clap::{Args, Parser, Subcommand};
use stream_worker::{
    apply_schema,
    apply_schema::Manner,
    dead_letters::command::{self as dead_letters, DeadLettersArgs},
    delete_data,
    shared::Shared,
    supervise, verify_drained,
};
use tracing_subscriber::EnvFilter;
use userpipeline_api::{
    document::WorkerPipeline,
    report::{TERMINATION_LOG, exit},
};
use userpipeline_record::RecordSchema;
use userpipeline_stores::Secrets;

/// Libraries speak up where something is wrong; what stores do, we say ourselves.
const LOG: &str = "info,scylla=off,tokio_postgres=warn,rdkafka::consumer=off";

/// Brings a pipeline's records from its topic to its sinks.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Reads the topic and writes to the sinks, until SIGTERM.
    Run(Run),
    /// Makes or mends topic, subject and tables, and ends.
    ApplySchema(ApplySchema),
    /// Once the workers are gone: verifies that the consumer group is empty and has committed what is stored, and ends.
    VerifyDrained(Task),
    /// Looks at dead letters, and drives them again.
    DeadLetters(DeadLettersArgs),
    /// Deletes what the pipeline has made: topic, subject, consumer group, tables, bookkeeping; and ends.
    DeleteData(DeleteData),
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
struct Run {
    #[command(flatten)]
    handed: Handed,
    /// Where /livez, /readyz, /status and /metrics are.
    #[arg(long, default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    /// This worker's name, as brokers and databases show it: the pod's.
    #[arg(long, default_value = "worker")]
    instance: String,
}

#[derive(Args)]
struct ApplySchema {
    #[command(flatten)]
    task: Task,
    /// The Kubernetes cluster for which everything is claimed (the uid of its namespace kube-system), so that no pipeline of
    /// another one writes to it; nothing is claimed when not given.
    #[arg(long)]
    cluster: Option<String>,
    /// Changes nothing and prints what would be: statements, topics, the subject.
    #[arg(long)]
    plan: bool,
}

#[derive(Args)]
struct DeleteData {
    #[command(flatten)]
    task: Task,
    /// The Kubernetes cluster for which everything was claimed.
    #[arg(long)]
    cluster: String,
}

#[derive(Args)]
struct Task {
    #[command(flatten)]
    handed: Handed,
    /// Where the outcome is left, as JSON.
    #[arg(long, default_value = TERMINATION_LOG)]
    termination_log: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    let command = Cli::parse().command;
    // What these print is for people.
    let prints = match &command {
        Command::ApplySchema(args) => args.plan,
        Command::DeadLetters(_) => true,
        _ => false,
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(if prints { "off" } else { LOG }));
    tracing_subscriber::fmt()
        .json()
        .with_env_filter(filter)
        .flatten_event(true)
        .with_span_list(false)
        .init();
    // It fails only where one is installed already, and that one serves.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match command {
        Command::ApplySchema(args) => {
            let manner = Manner {
                cluster: args.cluster,
                plan: args.plan,
            };
            let args = args.task;
            let secrets = Secrets::in_dir(&args.handed.secrets);
            ExitCode::from(Box::pin(apply_schema::run(&args.handed.pipeline, &secrets, &args.termination_log, manner)).await)
        }
        Command::DeadLetters(args) => ExitCode::from(Box::pin(dead_letters::run(args)).await),
        Command::DeleteData(args) => {
            let (cluster, args) = (args.cluster, args.task);
            let secrets = Secrets::in_dir(&args.handed.secrets);
            ExitCode::from(Box::pin(delete_data::run(&args.handed.pipeline, &secrets, &args.termination_log, cluster)).await)
        }
        Command::VerifyDrained(args) => {
            let secrets = Secrets::in_dir(&args.handed.secrets);
            ExitCode::from(Box::pin(verify_drained::run(&args.handed.pipeline, &secrets, &args.termination_log)).await)
        }
        Command::Run(args) => {
            let code = Box::pin(work(args)).await;
            // And not a return: that would wait for whatever hangs in a thread.
            std::process::exit(i32::from(code));
        }
    }
}

async fn work(args: Run) -> u8 {
    let path = args.handed.pipeline;
    let read = std::fs::read_to_string(&path)
        .map_err(|e| e.to_string())
        .and_then(|text| WorkerPipeline::read(&text).map_err(|e| e.to_string()))
        .and_then(|pipeline| Ok((RecordSchema::read(pipeline.record.as_ref())?, pipeline)));
    let (schema, pipeline) = match read {
        Ok(read) => read,
        Err(error) => {
            tracing::error!(path = %path.display(), error, "the pipeline's file cannot be used");
            return exit::CONFIGURATION;
        }
    };
    let span = tracing::info_span!("worker", pipeline = %pipeline.id);
    let shared = Arc::new(Shared::new(pipeline, schema, Secrets::in_dir(&args.handed.secrets), &args.instance));
    match tracing::Instrument::instrument(supervise::run(shared, args.listen), span).await {
        Ok(()) => exit::DONE,
        Err(error) => {
            tracing::error!(listen = %args.listen, %error, "the worker cannot run");
            exit::RETRY
        }
    }
}

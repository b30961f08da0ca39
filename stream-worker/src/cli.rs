//! The stream worker's command line.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc};

use clap::{Args, Parser, Subcommand};
use userpipeline_api::{
    StoreObject, TakenName,
    document::{CONFIG_MAPS, WorkerPipeline},
    report::{TERMINATION_LOG, exit},
};
use userpipeline_record::{RecordSchema, aggregate::Aggregate};
use userpipeline_runtime::{abort_on_panic, init_logs, install_crypto_provider};
use userpipeline_stores::Secrets;

use crate::{
    context::WorkerContext,
    mode::Mode,
    run,
    tasks::{
        TaskFiles, apply_schema, check_connection,
        dead_letters::{self, DeadLettersArgs},
        delete_data, inspect_topics, verify_drained,
    },
};

/// Libraries log their problems; the worker itself reports those of the stores.
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
    /// Reads the topic and writes to the sinks, until SIGTERM or SIGINT.
    Run(Run),
    /// Creates or alters topic, subject and tables, and exits.
    ApplySchema(ApplySchema),
    /// Reports which topics exist, with their settings, and exits. Changes nothing.
    InspectTopics(Task),
    /// After the workers are gone: verifies that the consumer group is empty and has committed what is stored, and exits.
    VerifyDrained(Task),
    /// Lists, shows and redrives dead letters.
    DeadLetters(DeadLettersArgs),
    /// Connects to each server of a connection, reports, and exits. Sends no request to an API, and changes nothing.
    CheckConnection(CheckConnection),
    /// Deletes what the pipeline created: topic, subject, consumer group, tables, bookkeeping; and exits.
    DeleteData(DeleteData),
}

#[derive(Args)]
struct Handed {
    /// The pipeline: a UserPipeline, as a user applies it.
    #[arg(long)]
    pipeline: PathBuf,
    /// The folder of the Secrets: DIR/<secret>/<key>.
    #[arg(long)]
    secrets: PathBuf,
    /// The folder of the ConfigMaps with certificates: DIR/<config map>/<key>.
    #[arg(long, default_value = CONFIG_MAPS)]
    config_maps: PathBuf,
}

impl Handed {
    fn secrets(&self) -> Secrets {
        Secrets::in_dir(&self.secrets).with_config_maps(&self.config_maps)
    }
}

#[derive(Args)]
struct Run {
    #[command(flatten)]
    handed: Handed,
    /// The address of /livez, /readyz, /status and /metrics.
    #[arg(long, default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    /// The worker's name, as brokers and databases show it: the pod's.
    #[arg(long, default_value = "worker")]
    instance: String,
}

#[derive(Args)]
struct ApplySchema {
    #[command(flatten)]
    task: Task,
    /// The Kubernetes cluster (the uid of its namespace kube-system) for which all resources are claimed, so that no pipeline
    /// of another cluster writes to them; without it, nothing is claimed.
    #[arg(long)]
    cluster: Option<String>,
    /// The id of the Kafka cluster in which the schema was applied before; another one is refused.
    #[arg(long)]
    expected_kafka_cluster: Option<String>,
    /// The PostgreSQL database in which the schema was applied before, as SYSTEM_IDENTIFIER/DATABASE; another one is refused.
    #[arg(long)]
    expected_postgres_system: Option<String>,
    /// Ids of stores that are accepted although they are others, separated by commas; may be repeated.
    #[arg(long = "accept-store", value_delimiter = ',')]
    accepted_stores: Vec<String>,
    /// Names of the pipeline that others use in stores at other addresses, as JSON; they are refused where the store is the same.
    #[arg(long, value_parser = taken_names)]
    taken_names: Option<Names>,
    /// The operator's record of what the pipeline created, as JSON; without it, claims decide.
    #[arg(long, value_parser = store_objects)]
    created_objects: Option<Objects>,
    /// The pipeline is older than the record, so its claims fill it.
    #[arg(long)]
    fill_created_objects: bool,
    /// An existing topic may have any number of replicas.
    #[arg(long)]
    any_replicas: bool,
    /// Changes nothing, and prints the changes that would be made to tables, topics and the subject.
    #[arg(long)]
    plan: bool,
}

#[derive(Args)]
struct CheckConnection {
    /// The connection: a UserPipelineConnection, as a user applies it. (Pods name all files alike.)
    #[arg(long, alias = "pipeline")]
    connection: PathBuf,
    /// The folder of the Secrets: DIR/<secret>/<key>.
    #[arg(long)]
    secrets: PathBuf,
    /// The folder of the ConfigMaps with certificates: DIR/<config map>/<key>.
    #[arg(long, default_value = CONFIG_MAPS)]
    config_maps: PathBuf,
    /// The file for the report, as JSON.
    #[arg(long, default_value = TERMINATION_LOG)]
    termination_log: PathBuf,
}

impl CheckConnection {
    fn files(self) -> TaskFiles {
        TaskFiles {
            secrets: Secrets::in_dir(&self.secrets).with_config_maps(&self.config_maps),
            resource: self.connection,
            termination_log: self.termination_log,
        }
    }
}

#[derive(Args)]
struct DeleteData {
    #[command(flatten)]
    task: Task,
    /// The Kubernetes cluster for which the resources were claimed.
    #[arg(long)]
    cluster: String,
    /// The operator's record of what the pipeline created, as JSON; nothing else is deleted.
    #[arg(long, value_parser = store_objects, default_value = "[]")]
    created_objects: Objects,
    /// The pipeline is older than the record, so its claims take the place of it.
    #[arg(long)]
    fill_created_objects: bool,
}

/// A list that is one value of an argument.
#[derive(Clone)]
struct Objects(Vec<StoreObject>);

fn store_objects(text: &str) -> Result<Objects, serde_json::Error> {
    serde_json::from_str(text).map(Objects)
}

/// As [`Objects`].
#[derive(Clone)]
struct Names(Vec<TakenName>);

fn taken_names(text: &str) -> Result<Names, serde_json::Error> {
    serde_json::from_str(text).map(Names)
}

#[derive(Args)]
struct Task {
    #[command(flatten)]
    handed: Handed,
    /// The file for the report, as JSON.
    #[arg(long, default_value = TERMINATION_LOG)]
    termination_log: PathBuf,
}

impl Task {
    fn files(self) -> TaskFiles {
        TaskFiles {
            secrets: self.handed.secrets(),
            resource: self.handed.pipeline,
            termination_log: self.termination_log,
        }
    }
}

/// The program. It is in the library because its futures are compiled where they are run: in `main.rs`, they would be compiled for both.
///
/// # Panics
///
/// If the runtime does not start.
#[tokio::main(flavor = "current_thread")]
pub async fn main() -> ExitCode {
    let command = Cli::parse().command;
    // The output of these is for people.
    let prints = match &command {
        Command::ApplySchema(args) => args.plan,
        Command::DeadLetters(_) => true,
        _ => false,
    };
    init_logs(if prints { "off" } else { LOG });
    abort_on_panic();
    install_crypto_provider();
    let code = match command {
        Command::ApplySchema(args) => {
            let mode = if args.plan { Mode::dry_run() } else { Mode::Apply };
            let stores = apply_schema::ExpectedStores {
                kafka_cluster: args.expected_kafka_cluster,
                postgres_system: args.expected_postgres_system,
                accepted: args.accepted_stores,
                taken: args.taken_names.map(|Names(names)| names).unwrap_or_default(),
                any_replicas: args.any_replicas,
            };
            let recorded = apply_schema::RecordedObjects {
                objects: args.created_objects.map(|Objects(objects)| objects),
                from_claims: args.fill_created_objects,
            };
            Box::pin(apply_schema::run(&args.task.files(), args.cluster, recorded, &stores, &mode)).await
        }
        Command::CheckConnection(args) => Box::pin(check_connection::run(&args.files())).await,
        Command::DeadLetters(args) => Box::pin(dead_letters::run(args)).await,
        Command::DeleteData(args) => {
            let recorded = (!args.fill_created_objects).then_some(args.created_objects.0);
            Box::pin(delete_data::run(&args.task.files(), args.cluster, recorded)).await
        }
        Command::InspectTopics(args) => Box::pin(inspect_topics::run(&args.files())).await,
        Command::VerifyDrained(args) => Box::pin(verify_drained::run(&args.files())).await,
        Command::Run(args) => {
            let code = Box::pin(work(args)).await;
            // And not a return, which would wait for threads that block.
            std::process::exit(i32::from(code));
        }
    };
    ExitCode::from(code)
}

async fn work(args: Run) -> u8 {
    let (path, secrets) = (&args.handed.pipeline, args.handed.secrets());
    let read = std::fs::read_to_string(path)
        .map_err(|e| e.to_string())
        .and_then(|text| WorkerPipeline::read(&text).map_err(|e| e.to_string()))
        .and_then(|pipeline| {
            let schema = RecordSchema::read(pipeline.record.as_ref())?;
            let aggregates = Aggregate::read(&pipeline.aggregates, &schema, pipeline.sink_tables())?;
            Ok((schema, aggregates, pipeline))
        });
    let (schema, aggregates, pipeline) = match read {
        Ok(read) => read,
        Err(error) => {
            tracing::error!(path = %path.display(), error, "the pipeline's file cannot be used");
            return exit::CONFIGURATION;
        }
    };
    let span = tracing::info_span!("worker", pipeline = %pipeline.id);
    let context = Arc::new(WorkerContext::new(pipeline, schema, aggregates, secrets, &args.instance));
    match tracing::Instrument::instrument(run::run(context, args.listen), span).await {
        Ok(()) => exit::DONE,
        Err(error) => {
            tracing::error!(listen = %args.listen, %error, "the worker cannot run");
            exit::RETRY
        }
    }
}

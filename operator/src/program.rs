//! The program `userpipeline-operator`: reconciles `UserPipeline` resources, and plans changes.

use std::{process::ExitCode, sync::Arc};

use clap::Parser as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use userpipeline_runtime::{StopSignals, abort_on_panic, init_logs, install_crypto_provider};

use crate::{
    backfill,
    cli::{Cli, Command, Plan, Run},
    connection, health, identity, installed,
    leader::{self, LeaseSettings, Timing},
    metrics::Metrics,
    pipeline::{self, Installation, plan},
};

/// It is in the library because its futures are compiled where they are run: in `main.rs`, they would be compiled for both.
///
/// # Panics
///
/// If the runtime does not start.
#[tokio::main]
pub async fn main() -> ExitCode {
    abort_on_panic();
    install_crypto_provider();
    match Cli::parse().command {
        Command::Run(run) => {
            init_logs("info");
            match operate(*run).await {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    tracing::error!(%error, "the operator failed");
                    ExitCode::FAILURE
                }
            }
        }
        Command::Plan(args) => match Box::pin(print_plan(args)).await {
            Ok(false) => ExitCode::SUCCESS,
            Ok(true) => ExitCode::from(1),
            Err(error) => {
                eprintln!("{error}");
                ExitCode::from(2)
            }
        },
    }
}

/// Returns whether anything would change.
async fn print_plan(args: Plan) -> Result<bool, Box<dyn std::error::Error>> {
    let text = if args.file.as_os_str() == "-" {
        std::io::read_to_string(std::io::stdin())?
    } else {
        std::fs::read_to_string(&args.file).map_err(|e| format!("{}: {e}", args.file.display()))?
    };
    let documents = plan::documents(&text)?;
    let client = kube::Client::try_default().await?;
    let run = installed::arguments(&client, &args.operator_namespace, &args.operator_name).await?;
    let schema = plan::SchemaDryRun {
        is_requested: args.schema,
        allowed_hosts: args.allowed_hosts,
    };
    let installation = run.installation(identity::of_cluster(&client).await?);
    let connections = plan::connections(&client, &documents, &args.field_manager).await?;
    for change in &connections.changes {
        print!("{change}");
    }
    let mut changes = !connections.changes.is_empty();
    let users = plan::users(&client, &documents).await?;
    let applied = documents.pipelines.iter().map(|pipeline| (pipeline, args.field_manager.as_str()));
    for (pipeline, manager) in applied.chain(users.iter().map(|pipeline| (pipeline, plan::MANAGER))) {
        let plan = Box::pin(plan::plan(&client, &installation, pipeline, &connections, manager, &schema)).await?;
        print!("{plan}");
        changes |= !plan.is_empty();
    }
    Ok(changes)
}

async fn operate(run: Run) -> Result<(), Box<dyn std::error::Error>> {
    let client = kube::Client::try_default().await?;
    let shutdown = CancellationToken::new();
    tokio::spawn(stop_on_signal(StopSignals::register()?, shutdown.clone()));

    let metrics = Metrics::new();
    let (leadership, leads) = watch::channel(Ok(()));
    let readiness = [health::probe_crds(client.clone(), run.watch_namespace.clone()), leads];
    // Bound first, so that a port in use is an error immediately.
    let listener = tokio::net::TcpListener::bind(run.listen).await?;
    let server = tokio::spawn(health::serve(listener, metrics.clone(), readiness, shutdown.clone()));

    let installation = run.installation(identity::of_cluster(&client).await?);
    let lease = LeaseSettings {
        namespace: run.lease_namespace,
        name: run.lease_name,
        identity: run.identity.clone(),
    };
    let controllers = Controllers::new(
        &client,
        &metrics,
        installation,
        pipeline::Writers::new(&run.strimzi_clusters),
        &run.identity,
    )?;
    let scope = run.watch_namespace;
    let led = leader::lead(client, lease, Timing::default(), metrics, leadership, shutdown.clone(), |stop| {
        controllers.run(scope, stop)
    })
    .await;
    shutdown.cancel();
    server.await??;
    Ok(led?)
}

/// The controllers of all resources, which share the caches.
struct Controllers {
    pipelines: Arc<pipeline::Context>,
    connections: Arc<connection::Context>,
    backfills: Arc<backfill::Context>,
    writers: pipeline::Writers,
}

impl Controllers {
    /// `identity` is the name of the operator's pod.
    fn new(
        client: &kube::Client,
        metrics: &Metrics,
        installation: Installation,
        writers: pipeline::Writers,
        identity: &str,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let (client, caches, metrics) = (|| client.clone(), || writers.caches(), || metrics.clone());
        let pipelines = pipeline::Context::new(client(), caches(), metrics(), installation.clone(), identity.to_owned())?;
        let uses = pipelines.connection_uses();
        let refused_pods = pipelines.refused_pods();
        Ok(Self {
            connections: Arc::new(connection::Context::new(
                client(),
                caches(),
                metrics(),
                uses,
                installation,
                identity.to_owned(),
            )),
            backfills: Arc::new(backfill::Context::new(
                client(),
                caches(),
                metrics(),
                refused_pods,
                identity.to_owned(),
            )),
            pipelines: Arc::new(pipelines),
            writers,
        })
    }

    async fn run(self, scope: Option<String>, stop: CancellationToken) {
        futures::join!(
            pipeline::run(self.pipelines, self.writers, scope.clone(), stop.clone()),
            connection::run(self.connections, stop.clone()),
            backfill::run(self.backfills, scope, stop)
        );
    }
}

async fn stop_on_signal(mut signals: StopSignals, shutdown: CancellationToken) {
    signals.received().await;
    tracing::info!("stopping after a signal");
    shutdown.cancel();
}

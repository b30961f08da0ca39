//! The command line of `ingest-job`.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

use clap::Parser;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use userpipeline_api::{DataInterval, Reprocess, RunKind, document::CONFIG_MAPS, report::TERMINATION_LOG};
use userpipeline_runtime::{StopSignals, abort_on_panic, init_logs, install_crypto_provider, leave_report};
use userpipeline_stores::Secrets;

use crate::{
    run::{Invocation, execute},
    run_id::RunArguments,
};

/// Fetches records from a pipeline's HTTP API, lands them in PostgreSQL and publishes them to Kafka: one run.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    /// The file of the pipeline: a UserPipeline.
    #[arg(long, value_name = "FILE")]
    pipeline: PathBuf,
    /// The directory of the Secrets: DIR/<secret>/<key>.
    #[arg(long, value_name = "DIR")]
    secrets: PathBuf,
    /// The directory of the ConfigMaps with certificates: DIR/<config map>/<key>.
    #[arg(long, value_name = "DIR", default_value = CONFIG_MAPS)]
    config_maps: PathBuf,
    /// The name of the Job. Without it, each start is a new run.
    #[arg(long, value_name = "NAME")]
    job: Option<String>,
    /// The Job's uid, which becomes the id of a manual run.
    #[arg(long, value_name = "UID")]
    job_uid: Option<String>,
    /// The name of the CronJob. Its Jobs, NAME-<minutes since 1970>, are the scheduled runs.
    #[arg(long, value_name = "NAME")]
    cronjob: Option<String>,
    /// The run's id in the ledger. Default: from the Job's name or uid.
    #[arg(long, value_name = "ID")]
    run_id: Option<String>,
    /// Why the run happens: Scheduled, CatchUp, Backfill or Manual.
    #[arg(long, value_name = "KIND")]
    run_kind: Option<RunKind>,
    /// The start of the data interval. Default: from the schedule.
    #[arg(long, value_name = "TIME", requires = "interval_end")]
    interval_start: Option<Timestamp>,
    /// The end of the data interval, exclusive.
    #[arg(long, value_name = "TIME", requires = "interval_start")]
    interval_end: Option<Timestamp>,
    /// Which runs of earlier Jobs are repeated: None, or Failed.
    #[arg(long, value_name = "WHICH", default_value = "Failed")]
    reprocess: Reprocess,
    /// Values of placeholders. They override spec.schedule.arguments.
    #[arg(long, value_name = "JSON", value_parser = arguments)]
    arguments: Option<BTreeMap<String, String>>,
    /// The file for the report of the run.
    #[arg(long, value_name = "FILE", default_value = TERMINATION_LOG)]
    termination_log: PathBuf,
}

/// The program. It is in the library because its futures are compiled where they are run: in `main.rs`, they would be compiled for both.
///
/// # Panics
///
/// If the runtime does not start.
// One thread: a run does one thing after the other, and would wake another thread for each message of a connection.
#[tokio::main(flavor = "current_thread")]
pub async fn main() -> ExitCode {
    let cli = Cli::parse();
    init_logs("info");
    abort_on_panic();
    install_crypto_provider();
    let stop = CancellationToken::new();
    tokio::spawn(stop_on_signal(stop.clone()));

    let invocation = Invocation {
        pipeline: cli.pipeline,
        secrets: Secrets::in_dir(cli.secrets).with_config_maps(cli.config_maps),
        run: RunArguments {
            job: cli.job,
            job_uid: cli.job_uid,
            cron_job: cli.cronjob,
            run_id: cli.run_id,
            kind: cli.run_kind,
            interval: cli
                .interval_start
                .zip(cli.interval_end)
                .map(|(start, end)| DataInterval { start, end }),
            arguments: cli.arguments.unwrap_or_default(),
            skip_failed: cli.reprocess == Reprocess::None,
        },
    };
    let result = execute(&invocation, &stop).await;

    leave_report(&result.report, &cli.termination_log);
    ExitCode::from(result.exit)
}

fn arguments(text: &str) -> Result<BTreeMap<String, String>, String> {
    serde_json::from_str(text).map_err(|e| format!("not a JSON object with text values: {e}"))
}

async fn stop_on_signal(stop: CancellationToken) {
    match StopSignals::register() {
        Ok(mut signals) => signals.received().await,
        Err(_) => std::future::pending().await,
    }
    tracing::info!("received a stop signal: finishing the page");
    stop.cancel();
}

//! `ingest-job`: one run of a pipeline.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

use clap::Parser;
use ingest_job::{
    run::{Invocation, execute},
    run_id::Told,
};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use userpipeline_api::{DataInterval, Reprocess, RunKind, report::TERMINATION_LOG};
use userpipeline_runtime::{StopSignals, abort_on_panic, init_logs, install_crypto_provider, leave_report};

/// Fetches records from a pipeline's HTTP API, lands them in PostgreSQL and publishes them to Kafka: one run.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    /// The pipeline: a UserPipeline, as a user applies it.
    #[arg(long, value_name = "FILE")]
    pipeline: PathBuf,
    /// The folder of the Secrets: DIR/<secret>/<key>.
    #[arg(long, value_name = "DIR")]
    secrets: PathBuf,
    /// The Job this runs in; without it, each start is a run of its own.
    #[arg(long, value_name = "NAME")]
    job: Option<String>,
    /// The Job's uid: the id of a manual run.
    #[arg(long, value_name = "UID")]
    job_uid: Option<String>,
    /// The CronJob; its Jobs, NAME-<minutes since 1970>, are the scheduled runs.
    #[arg(long, value_name = "NAME")]
    cronjob: Option<String>,
    /// The run's id in the ledger, where neither the Job's name nor its uid says it.
    #[arg(long, value_name = "ID")]
    run_id: Option<String>,
    /// Why the run happens: Scheduled, CatchUp, Backfill or Manual.
    #[arg(long, value_name = "KIND")]
    run_kind: Option<RunKind>,
    /// The data interval's first moment, where the schedule does not say it.
    #[arg(long, value_name = "TIME", requires = "interval_end")]
    interval_start: Option<Timestamp>,
    /// The first moment after the data interval.
    #[arg(long, value_name = "TIME", requires = "interval_start")]
    interval_end: Option<Timestamp>,
    /// Whether an interval that had a run before is run again: None, or Failed for those whose run has failed.
    #[arg(long, value_name = "WHICH", default_value = "Failed")]
    reprocess: Reprocess,
    /// Values for placeholders, other than those in spec.schedule.arguments.
    #[arg(long, value_name = "JSON", value_parser = arguments)]
    arguments: Option<BTreeMap<String, String>>,
    /// Where the report of the run is left.
    #[arg(long, value_name = "FILE", default_value = TERMINATION_LOG)]
    termination_log: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    init_logs("info");
    abort_on_panic();
    install_crypto_provider();
    let stop = CancellationToken::new();
    tokio::spawn(stop_on_signal(stop.clone()));

    let invocation = Invocation {
        pipeline: cli.pipeline,
        secrets: cli.secrets,
        told: Told {
            job: cli.job,
            job_uid: cli.job_uid,
            cronjob: cli.cronjob,
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
    let ended = execute(&invocation, &stop).await;

    leave_report(&ended.report, &cli.termination_log);
    ExitCode::from(ended.exit)
}

fn arguments(text: &str) -> Result<BTreeMap<String, String>, String> {
    serde_json::from_str(text).map_err(|e| format!("no JSON object of texts: {e}"))
}

async fn stop_on_signal(stop: CancellationToken) {
    match StopSignals::register() {
        Ok(mut signals) => signals.received().await,
        Err(_) => std::future::pending().await,
    }
    tracing::info!("asked to stop: finishing the page");
    stop.cancel();
}

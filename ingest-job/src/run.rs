//! A run: open the ledger, work, close the ledger, report.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use userpipeline_api::{RunOutcome, Ticks, document::IngestPipeline, placeholder::Values, report::exit};
use userpipeline_record::trace::Trace;
use userpipeline_stores::{Secrets, postgres::Connection};

use crate::{
    attempt::Attempt,
    ledger::{self, EndedRun, Ledger, Opened},
    outcome::{ALREADY_DONE, ALREADY_FAILED, ALREADY_RUNNING, BEFORE_START, Counts, Failure, INTERRUPTED, PIPELINE_INVALID, Success},
    report::{ActiveRun, RunResult},
    run_id::{Run, RunArguments},
};

/// How long a run may finish and publish its page after a stop signal: within Kubernetes' default grace period of 30 s, with time
/// left for ledger and report.
const GRACE_PERIOD: Duration = Duration::from_secs(20);

/// How the program was started.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// The file of the pipeline.
    pub pipeline: PathBuf,
    pub secrets: Secrets,
    pub run: RunArguments,
}

/// Performs a run. Every outcome has a report.
pub async fn execute(invocation: &Invocation, stop: &CancellationToken) -> RunResult {
    let now = Timestamp::now();
    let active = |run| ActiveRun {
        run,
        started_at: now,
        attempt: 0,
        counts: Counts::default(),
        total_fetched: None,
    };
    let (pipeline, ticks) = match read_pipeline(&invocation.pipeline) {
        Ok(read) => read,
        Err(message) => {
            let run = active(Run::of(&invocation.run, None, now));
            let result = run.fail(&Failure::configuration(PIPELINE_INVALID, message));
            result.log();
            return result;
        }
    };
    let active = active(Run::of(&invocation.run, Some((&pipeline.schedule, &ticks)), now));
    let trace = Trace::of(&pipeline.id.to_string(), &active.run.id);
    let span = tracing::info_span!("run", pipeline = %pipeline.id, run = active.run.id, trace_id = trace.id);
    let job = invocation.run.job.as_deref().unwrap_or_default();
    let logged = async {
        let result = if active.run.is_before_start(&pipeline.schedule, &ticks) {
            let message = "the run's interval begins before spec.schedule.startAt; nothing was done";
            active.end(exit::DONE, BEFORE_START, message)
        } else {
            Box::pin(run_under_lock(&pipeline, &ticks, &invocation.secrets, job, active, stop)).await
        };
        result.log();
        result
    };
    logged.instrument(span).await
}

fn read_pipeline(file: &Path) -> Result<(IngestPipeline, Ticks), String> {
    let text = fs::read_to_string(file).map_err(|e| format!("cannot read {}: {e}", file.display()))?;
    let pipeline = IngestPipeline::read(&text).map_err(|e| e.to_string())?;
    let ticks = Ticks::read(&pipeline.schedule.cron, &pipeline.schedule.time_zone)?;
    Ok((pipeline, ticks))
}

async fn run_under_lock(
    pipeline: &IngestPipeline,
    ticks: &Ticks,
    secrets: &Secrets,
    job: &str,
    mut active: ActiveRun,
    stop: &CancellationToken,
) -> RunResult {
    let postgres = Connection::new(&pipeline.postgres, secrets);
    let mut ledger = match ledger::open(postgres, &pipeline.id.to_string(), &active.run, job).await {
        Ok(Opened::Run(ledger)) => ledger,
        Ok(Opened::AlreadyEnded(ended)) => return already_ended(active, &ended),
        Ok(Opened::Locked { total_fetched }) => {
            active.total_fetched = Some(total_fetched);
            let message = "another process performs this run: it holds the run's lock in PostgreSQL";
            return active.fail(&Failure::retry(ALREADY_RUNNING, message));
        }
        Err(e) => return active.fail(&e.into()),
    };
    active.attempt = ledger.key.attempt;
    let interval = active.run.interval.map(|i| format!("{}/{}", i.start, i.end));
    tracing::info!(attempt = active.attempt, job, kind = %active.run.kind, interval, "the run starts");
    let values = Values {
        run_id: active.run.id.clone(),
        kind: active.run.kind,
        interval: active.run.interval,
        zone: ticks.zone().clone(),
        arguments: active.run.arguments.clone(),
        cursor: None,
    };
    let worked = tokio::select! {
        biased;
        worked = work(pipeline, values, secrets, &mut ledger, stop) => worked,
        () = grace_period_over(stop) => Err(interrupted()),
    };
    let closed = ledger.close(&worked).await;
    active.counts = ledger.before + ledger.counts;
    active.total_fetched = closed.as_ref().ok().copied();
    match (worked, closed) {
        (Ok(success), Ok(_)) => active.complete(&success),
        // A run that the ledger does not record as complete is repeated.
        (Ok(_), Err(e)) => active.fail(&e.into()),
        (Err(failure), closed) => {
            if let Err(e) = closed {
                tracing::warn!(error = %e, "the ledger does not record that the run failed");
            }
            active.fail(&failure)
        }
    }
}

fn already_ended(active: ActiveRun, ended: &EndedRun) -> RunResult {
    let (reason, message) = match ended.outcome {
        RunOutcome::Succeeded => (ALREADY_DONE, "this run succeeded before; nothing was done"),
        RunOutcome::Failed => (
            ALREADY_FAILED,
            "this run failed before, and failed runs are not repeated; nothing was done",
        ),
    };
    let active = ActiveRun {
        counts: ended.counts,
        attempt: ended.attempt,
        total_fetched: Some(ended.total_fetched),
        ..active
    };
    active.end(exit::DONE, reason, message)
}

async fn work(
    pipeline: &IngestPipeline,
    values: Values,
    secrets: &Secrets,
    ledger: &mut Ledger,
    stop: &CancellationToken,
) -> Result<Success, Failure> {
    let attempt = Attempt::start(pipeline, values, secrets, ledger).await?;
    Box::pin(attempt.run(stop)).await
}

async fn grace_period_over(stop: &CancellationToken) {
    stop.cancelled().await;
    sleep(GRACE_PERIOD).await;
}

fn interrupted() -> Failure {
    let message = format!(
        "a stop signal ended the run, which did not finish its page within {} s; a later run publishes what has landed",
        GRACE_PERIOD.as_secs()
    );
    Failure::retry(INTERRUPTED, message)
}

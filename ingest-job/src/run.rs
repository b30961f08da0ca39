//! A run, as a table of contents.

use std::{fs, path::PathBuf, time::Duration};

use jiff::Timestamp;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use userpipeline_api::{RunKind, Ticks, document::IngestPipeline, placeholder::Values, report::exit};
use userpipeline_record::{RecordSchema, trace::Trace};
use userpipeline_stores::{Secrets, postgres::Connection};

use crate::{
    cursor::{self, Cursor},
    fetch::{Source, filled},
    land::Landing,
    ledger::{self, Ledger, Opened},
    outcome::{
        ALREADY_DONE, ALREADY_FAILED, ALREADY_RUNNING, BEFORE_START, Counts, End, Failure, INCOMPLETE, INTERRUPTED, PIPELINE_INVALID,
        SOURCE_REFUSED, allowance, decide,
    },
    page::Page,
    publish::Publisher,
    report::{Ended, Facts},
    run_id::{Run, Told},
};

/// How long a run that is told to stop may take to finish its page and publish it: within Kubernetes' usual grace period
/// of 30 s, with time left for the ledger and the report.
const GRACE: Duration = Duration::from_secs(20);

/// What a run is started with.
#[derive(Clone, Debug, Default)]
pub struct Invocation {
    /// The pipeline's file.
    pub pipeline: PathBuf,
    /// The folder of the Secrets.
    pub secrets: PathBuf,
    /// Which run it is.
    pub told: Told,
}

/// Runs once, and says how it ended, however it ended.
pub async fn execute(invocation: &Invocation, stop: &CancellationToken) -> Ended {
    let now = Timestamp::now();
    let facts = |run| Facts {
        run,
        started_at: now,
        attempt: 0,
        counts: Counts::default(),
        total_fetched: None,
    };
    let read = fs::read_to_string(&invocation.pipeline).map_err(|e| format!("{}: {e}", invocation.pipeline.display()));
    let read = read
        .and_then(|text| IngestPipeline::read(&text).map_err(|e| e.to_string()))
        .and_then(|pipeline| Ok((Ticks::read(&pipeline.schedule.cron, &pipeline.schedule.time_zone)?, pipeline)));
    let (ticks, pipeline) = match read {
        Ok(read) => read,
        Err(message) => {
            let ended = facts(Run::of(&invocation.told, None, now)).failed(&Failure::configuration(PIPELINE_INVALID, message));
            ended.log();
            return ended;
        }
    };
    let facts = facts(Run::of(&invocation.told, Some((&pipeline.schedule, &ticks)), now));
    let trace = Trace::of(&pipeline.id.to_string(), &facts.run.id);
    let span = tracing::info_span!("run", pipeline = %pipeline.id, run = facts.run.id, trace_id = trace.id);
    let job = invocation.told.job.as_deref().unwrap_or_default();
    let secrets = Secrets::in_dir(&invocation.secrets);
    let logged = async {
        let ended = if facts.run.is_before_start(&pipeline.schedule, &ticks) {
            facts.ended(
                exit::DONE,
                BEFORE_START,
                "its interval begins before spec.schedule.startAt; nothing was done",
            )
        } else {
            under_lock(&pipeline, &ticks, &secrets, job, facts, stop).await
        };
        ended.log();
        ended
    };
    logged.instrument(span).await
}

/// Opens the ledger, does the work, closes the ledger.
async fn under_lock(
    pipeline: &IngestPipeline,
    ticks: &Ticks,
    secrets: &Secrets,
    job: &str,
    mut facts: Facts,
    stop: &CancellationToken,
) -> Ended {
    let postgres = Connection::new(&pipeline.postgres, secrets);
    let mut ledger = match ledger::open(&postgres, &pipeline.id.to_string(), &facts.run, job).await {
        Ok(Opened::Run(ledger)) => ledger,
        Ok(Opened::Done {
            succeeded,
            counts,
            attempt,
            total_fetched,
        }) => {
            let facts = Facts {
                counts,
                attempt,
                total_fetched: Some(total_fetched),
                ..facts
            };
            return if succeeded {
                facts.ended(exit::DONE, ALREADY_DONE, "this run has succeeded before; nothing was done")
            } else {
                facts.ended(
                    exit::DONE,
                    ALREADY_FAILED,
                    "this run has failed before, and is not to be tried again; nothing was done",
                )
            };
        }
        Ok(Opened::Taken { total_fetched }) => {
            facts.total_fetched = Some(total_fetched);
            return facts.failed(&Failure::retry(
                ALREADY_RUNNING,
                "another process holds the lock of this run in PostgreSQL",
            ));
        }
        Err(e) => return facts.failed(&e.into()),
    };
    facts.attempt = ledger.key.attempt;
    let interval = facts.run.interval.map(|i| format!("{}/{}", i.start, i.end));
    tracing::info!(attempt = facts.attempt, job, kind = %facts.run.kind, interval, "the run starts");
    let values = Values {
        run_id: facts.run.id.clone(),
        kind: facts.run.kind,
        interval: facts.run.interval,
        zone: ticks.zone().clone(),
        arguments: facts.run.arguments.clone(),
        cursor: None,
    };
    let worked = tokio::select! {
        biased;
        worked = work(pipeline, values, secrets, &mut ledger, stop) => worked,
        () = overdue(stop) => Err(Failure::retry(INTERRUPTED, format!("told to stop, and its page was not finished within {} s; what has landed is published by a later run", GRACE.as_secs()))),
    };
    let closed = ledger.close(&worked, &postgres).await;
    facts.counts = ledger.before + ledger.counts;
    facts.total_fetched = closed.as_ref().ok().copied();
    match (worked, closed) {
        (Ok(message), Ok(_)) => facts.done(&message),
        // Without its mark the run is not done: the next attempt will find it so.
        (Ok(_), Err(e)) => facts.failed(&e.into()),
        (Err(failure), closed) => {
            if let Err(e) = closed {
                tracing::warn!(error = %e, "the ledger could not be told that the run failed");
            }
            facts.failed(&failure)
        }
    }
}

/// Page by page, until one of the ends.
async fn work(
    pipeline: &IngestPipeline,
    mut values: Values,
    secrets: &Secrets,
    ledger: &mut Ledger,
    stop: &CancellationToken,
) -> Result<String, Failure> {
    let schema = RecordSchema::read(pipeline.record.as_ref()).map_err(|problems| Failure::configuration(PIPELINE_INVALID, problems))?;
    let mut cursor = match &pipeline.source.cursor {
        Some(_) if values.kind == RunKind::Backfill => {
            let message = "a pipeline with spec.source.http.cursor asks for what is new: it has no past intervals to fill";
            return Err(Failure::configuration(PIPELINE_INVALID, message));
        }
        Some(spec) => Some(Cursor::load(&ledger.client, &ledger.key.pipeline, &values.arguments, spec).await?),
        None => None,
    };
    values.cursor = cursor.as_ref().map(|cursor| cursor.sent().to_owned());
    let mut source = Source::new(&filled(&pipeline.source, &values)?, secrets)?;
    let publisher = Publisher::open(pipeline, &schema, ledger).await?;
    let landing = Landing::prepare(&ledger.client, &pipeline.landing_table, &schema).await?;
    publisher.publish_pending(ledger).await?;
    if ledger.counts.published > 0 {
        tracing::info!(published = ledger.counts.published, "published what interrupted runs had left");
    }
    let limit = pipeline.source.max_records_per_run;
    // An attempt that starts at the first page again meets again what an earlier one has landed.
    let allowance = if source.repeats() { allowance(limit, ledger.before) } else { limit };
    let mut cut = false;
    let end = loop {
        let left = allowance - ledger.counts.items;
        if left <= 0 {
            break End::Limit;
        }
        let answer = match source.next(stop).await {
            Ok(answer) => answer,
            Err(end) => break end,
        };
        let taken = if let Some(cursor) = &mut cursor {
            let unfit = |e| Failure::configuration(SOURCE_REFUSED, format!("spec.source.http.cursor: {e}"));
            cursor.saw(&answer.items, &answer.body).map_err(unfit)?;
            // What was left out of a page would be behind the cursor.
            i64::MAX
        } else {
            cut = !source.repeats() && i64::try_from(answer.items.len()).unwrap_or(i64::MAX) > left;
            left
        };
        drop(answer.body);
        let page = Page::map(answer.items, taken, &schema, pipeline.max_record);
        // What is too bad for the run to succeed is to be asked for again once that is mended.
        let bad = ledger
            .counts
            .with(page.items(), page.rejects.len())
            .too_many_rejects(pipeline.max_rejected_ratio);
        let advance = cursor.as_ref().filter(|_| source.repeats() && !bad);
        let landed = ledger.counts.landed;
        landing.land(ledger, &page, advance).await?;
        publisher.publish_pending(ledger).await?;
        let counts = ledger.counts;
        tracing::info!(
            items = page.items(),
            total_items = counts.items,
            total_landed = counts.landed,
            total_published = counts.published,
            "page"
        );
        if page.items() == 0 && source.repeats() {
            break End::Exhausted;
        }
        if source.repeats()
            && let Some(cursor) = &mut cursor
        {
            if !cursor.go_on() {
                if counts.landed == landed {
                    break End::Exhausted;
                }
                // Not where it is: that is of a record.
                let message = "a page had new records, and the cursor did not come further: more of them have its value than fit a page; ask for larger pages";
                return Err(Failure::configuration(INCOMPLETE, message));
            }
            values.cursor = Some(cursor.sent().to_owned());
            source.ask_for(&filled(&pipeline.source, &values)?)?;
        }
        if counts.hopeless(pipeline.max_rejected_ratio) {
            break End::Hopeless;
        }
    };
    let end = match end {
        End::Limit | End::TimeUp if cut || source.may_have_more() => End::Cut(Box::new(end)),
        end => end,
    };
    let message = decide(end, ledger.before, ledger.counts, pipeline.max_rejected_ratio)?;
    let Some(cursor) = cursor else { return Ok(message) };
    // All pages have landed; a repeated request has stored it with each of them.
    let key = ledger.key.clone();
    let transaction = ledger.client.transaction().await.map_err(|e| cursor::failed(&e))?;
    cursor.store(&transaction, &key).await?;
    transaction.commit().await.map_err(|e| cursor::failed(&e))?;
    Ok(format!("{message}; {}", cursor.told()))
}

async fn overdue(stop: &CancellationToken) {
    stop.cancelled().await;
    sleep(GRACE).await;
}

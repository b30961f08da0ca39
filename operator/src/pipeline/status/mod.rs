//! What was applied and what is seen, as a status. Pure.

mod fresh;
mod measure;
pub(crate) mod verdict;
mod workers;

use std::time::Duration;

use jiff::Timestamp;
use userpipeline_api::{
    ScheduleStatus, SchemaStatus, UserPipeline, UserPipelineStatus, VersionStatus, condition, names, names::PipelineId,
    report::TOPIC_MISSING,
};

use super::{
    apply::{Applied, ApplyError},
    build::labels,
    dereference::Observed,
    runs::SeenRun,
    schedule,
    schedule::History,
    schema,
    validate::ValidateError,
};
use verdict::Verdict;

/// How long nothing needs to be looked at where nothing moves.
const RESYNC: Duration = Duration::from_secs(450);
/// How often working pipelines are measured.
pub const MEASURE_EVERY: Duration = Duration::from_secs(10);

/// The status of a pipeline whose status was `pipeline.status` before.
pub fn of(
    pipeline: &UserPipeline,
    outcome: Result<&Applied, &ValidateError>,
    observed: &Observed,
    seen: &[SeenRun],
    own_version: &str,
    now: Timestamp,
) -> UserPipelineStatus {
    let before = pipeline.status.clone().unwrap_or_default();
    let generation = pipeline.metadata.generation;
    let id = PipelineId::of(pipeline);
    let named = names::with_names(pipeline.spec.clone(), &id);
    let history = History::of(&before, seen, None);
    let mut status = UserPipelineStatus {
        observed_generation: generation,
        version: Some(version(pipeline, own_version)),
        selector: Some(labels::worker_selector_text(&id.name)),
        topic: named.kafka.topic.name,
        workers: workers::counts(pipeline, outcome, observed),
        last_run: history.last_run,
        runs: history.runs,
        last_success: history.last_success,
        schedule: match outcome {
            Ok(applied) => Some(applied.runs.status.clone()),
            // Runs go on by the spec before; those that fail count when this one is mended.
            Err(_) => before.schedule.clone().map(|schedule| ScheduleStatus {
                consecutive_failures: history.consecutive_failures,
                ..schedule
            }),
        },
        drain: match outcome {
            Ok(applied) => applied.drain.status.clone(),
            Err(_) => before.drain.clone(),
        },
        run_now: match outcome {
            Ok(applied) => applied.runs.run_now.clone(),
            Err(_) => before.run_now.clone(),
        },
        schema: match outcome {
            Ok(applied) => Some(applied.decision.status.clone()).filter(|schema| *schema != SchemaStatus::default()),
            Err(_) => before.schema.clone(),
        },
        ..before.clone()
    };
    measure::measure(&mut status, observed, now);

    let verdicts = match outcome {
        Ok(applied) => verdicts(pipeline, applied, observed, &before, &status, now),
        Err(error) => invalid(error),
    };
    status.conditions = verdicts
        .into_iter()
        .map(|(type_, verdict)| verdict.condition(type_, generation, &before.conditions, now))
        .collect();
    status
}

/// The version that is wanted, and what there would be without the pin.
fn version(pipeline: &UserPipeline, own: &str) -> VersionStatus {
    let pinned = pipeline.spec.image.as_ref().and_then(|image| image.version.clone());
    VersionStatus {
        available: pinned.as_ref().filter(|pinned| *pinned != own).map(|_| own.to_owned()),
        wanted: pinned.unwrap_or_else(|| own.to_owned()),
    }
}

/// When to look again, if nothing happens before.
pub fn look_again(pipeline: &UserPipeline, outcome: Result<&Applied, &ValidateError>, observed: &Observed, now: Timestamp) -> Duration {
    let soon = match outcome {
        Ok(applied) => [applied.decision.look_again, applied.runs.look_again, applied.drain.look_again]
            .into_iter()
            .flatten()
            .min(),
        // The elder may go at any moment, and nobody tells.
        Err(ValidateError::Conflict { .. }) => Some(MEASURE_EVERY),
        Err(_) => None,
    };
    let working = observed.workers().next().is_some() || (!pipeline.spec.suspend && pipeline.spec.workers.replicas > 0 && outcome.is_ok());
    // What was measured a moment ago is not measured again before its time, and then once more.
    let often = working || measure::is_early(pipeline.status.as_ref(), now);
    soon.unwrap_or(RESYNC).min(if often { MEASURE_EVERY } else { RESYNC })
}

fn verdicts(
    pipeline: &UserPipeline,
    applied: &Applied,
    observed: &Observed,
    before: &UserPipelineStatus,
    after: &UserPipelineStatus,
    now: Timestamp,
) -> Vec<(&'static str, Verdict)> {
    let schema = schema_ready(applied);
    // Whoever deletes the topic tells nobody; the workers miss it.
    let topic = match observed.reports.values().find(|report| report.reason == TOPIC_MISSING) {
        Some(report) => Verdict::no(&report.reason, &report.message),
        None => topic_ready(pipeline, applied, before),
    };
    let schedule = schedule_ready(pipeline, applied);
    let workers = workers::ready(applied, observed);
    let suspended = workers::suspended(pipeline, applied);
    let ready = ready(pipeline, applied, &suspended, [&schema, &topic, &schedule, &workers]);
    // Everything else is as wanted, and nothing will go on by itself.
    let stalled = ready.reason == schedule::PAUSED;
    let reconciling = if ready.is_true() || stalled {
        Verdict::no("Settled", "nothing is left to be done")
    } else {
        Verdict::yes(&ready.reason, &ready.message)
    };
    let stalled = if stalled {
        Verdict::yes(&ready.reason, &ready.message)
    } else {
        Verdict::no("NotStalled", "the spec can be worked towards")
    };
    vec![
        (condition::READY, ready),
        (condition::SCHEMA_READY, schema),
        (condition::TOPIC_READY, topic),
        (condition::SCHEDULE_READY, schedule),
        (condition::WORKERS_READY, workers),
        (condition::SUSPENDED, suspended),
        (condition::RECONCILING, reconciling),
        (condition::STALLED, stalled),
        (condition::DATA_FRESH, fresh::fresh(pipeline, observed, after, now)),
    ]
}

/// Nothing of an invalid spec was applied, so nothing is claimed of it; what was applied before runs on.
fn invalid(error: &ValidateError) -> Vec<(&'static str, Verdict)> {
    let (reason, message) = (error.reason(), error.to_string());
    let unknown = || Verdict::unknown(reason, "nothing of this spec is applied; what was applied before runs on");
    vec![
        (condition::READY, Verdict::no(reason, &message)),
        (condition::SCHEMA_READY, unknown()),
        (condition::TOPIC_READY, unknown()),
        (condition::SCHEDULE_READY, unknown()),
        (condition::WORKERS_READY, unknown()),
        (condition::SUSPENDED, unknown()),
        (condition::DATA_FRESH, unknown()),
        (condition::RECONCILING, Verdict::no(reason, "nothing is done before that is mended")),
        (condition::STALLED, Verdict::yes(reason, &message)),
    ]
}

fn failed(error: &ApplyError) -> Verdict {
    Verdict::no(error.reason(), &error.to_string())
}

fn schema_ready(applied: &Applied) -> Verdict {
    if let Err(error) = &applied.schema {
        return failed(error);
    }
    let status = &applied.decision.status;
    match &applied.decision.finding {
        schema::Finding::Applied => Verdict::yes("Applied", "topic, subject and tables are as wanted"),
        // While it is tried again, why it has failed is what there is to know.
        schema::Finding::Applying(None) if status.failed_attempts > 0 => schema_failed(status),
        schema::Finding::Applying(None) => Verdict::no("Applying", "a schema Job is making topic, subject and tables"),
        schema::Finding::Applying(Some((reason, message))) => Verdict::no(reason, message),
        schema::Finding::Waiting => Verdict::no("Applying", "a schema Job for an older spec is being ended first"),
        schema::Finding::Failed => schema_failed(status),
    }
}

fn schema_failed(status: &SchemaStatus) -> Verdict {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    Verdict::no(&text(&status.failure_reason), &text(&status.failure_message)).or_word("SchemaFailed")
}

fn topic_ready(pipeline: &UserPipeline, applied: &Applied, before: &UserPipelineStatus) -> Verdict {
    let status = &applied.decision.status;
    if applied.decision.is_applied() {
        let partitions = status.partitions.map_or(String::new(), |n| format!(" and has {n} partitions"));
        return Verdict::yes("TopicExists", &format!("the topic is there{partitions}"));
    }
    match applied.decision.topic_ready {
        Some(true) => Verdict::yes("TopicExists", "the topic is there"),
        Some(false) => Verdict::no(
            status.failure_reason.as_deref().unwrap_or_default(),
            status.failure_message.as_deref().unwrap_or_default(),
        )
        .or_word("TopicNotReady"),
        // What a Job has told of this very spec stays so until the next one tells otherwise.
        None => before
            .conditions
            .iter()
            .find(|c| {
                c.type_ == condition::TOPIC_READY
                    && c.observed_generation == pipeline.metadata.generation
                    && c.observed_generation.is_some()
            })
            .map_or_else(
                || Verdict::unknown("WaitingForSchema", "no schema Job has told of the topic yet"),
                Verdict::from,
            ),
    }
}

fn schedule_ready(pipeline: &UserPipeline, applied: &Applied) -> Verdict {
    let Some(schedule) = &pipeline.spec.schedule else {
        return Verdict::yes("NoRuns", "others write to the topic (spec.source.topic)");
    };
    match &applied.schedule {
        Err(error) => failed(error),
        Ok(_) if applied.started.is_err() => applied
            .started
            .as_ref()
            .err()
            .map_or_else(|| Verdict::no("ApplyFailed", ""), failed),
        Ok(None) => Verdict::no("WaitingForSchema", "runs begin when the schema has been applied"),
        Ok(Some(_)) if !applied.decision.is_applied() => Verdict::no(
            "WaitingForSchema",
            "runs keep to the spec that was applied last until the schema has been applied",
        ),
        Ok(Some(_)) if applied.workers_first => Verdict::no(
            "WaitingForWorkers",
            "runs keep to the record as it was until no worker is left that knows no other",
        ),
        Ok(Some(_)) if pipeline.spec.suspend => Verdict::yes("Suspended", "no run is started while the pipeline is suspended"),
        Ok(Some(_)) if applied.runs.paused => Verdict::no(
            schedule::PAUSED,
            &format!(
                "{} runs in a row have failed (spec.schedule.pauseAfterFailures); mend what the last one says, then ask for a run with spec.runNow, or change the source or the schedule",
                applied.runs.status.consecutive_failures
            ),
        ),
        Ok(Some(_)) => {
            let by = if schedule.catch_up.enabled { ", and are made up for" } else { "" };
            Verdict::yes(
                "Scheduled",
                &format!("runs start at {} ({}){by}", schedule.cron, schedule.time_zone),
            )
        }
    }
}

fn ready(pipeline: &UserPipeline, applied: &Applied, suspended: &Verdict, parts: [&Verdict; 4]) -> Verdict {
    if let Err(error) = &applied.account {
        return failed(error);
    }
    if let Some(part) = parts
        .iter()
        .find(|part| part.is_false())
        .or_else(|| parts.iter().find(|part| !part.is_true()))
    {
        return (*part).clone();
    }
    if suspended.is_true() {
        return Verdict::yes("Suspended", &suspended.message);
    }
    // On its way there.
    if pipeline.spec.suspend {
        return suspended.clone();
    }
    Verdict::yes("Ready", &parts[3].message)
}

#[cfg(test)]
mod tests;

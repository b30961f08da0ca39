//! The conditions of a pipeline. Pure.

use jiff::Timestamp;
use userpipeline_api::{SchemaStatus, TlsMode, UserPipeline, UserPipelineStatus, condition};

use super::{
    fresh,
    modified::{modified, with_foreign},
    topic::topic_ready,
    verdict::Verdict,
    workers,
};
use crate::pipeline::{
    apply::Applied,
    decide::schema::Finding,
    model::{DefaultTls, reasons::PAUSED},
    observe::{Observed, run_problem},
    validate::ValidateError,
};

/// The conditions after the decisions were applied.
pub fn of_applied(
    pipeline: &UserPipeline,
    applied: &Applied,
    observed: &Observed,
    before: &UserPipelineStatus,
    after: &UserPipelineStatus,
    now: Timestamp,
) -> Vec<(&'static str, Verdict)> {
    let schema = schema_ready(pipeline, applied);
    let topic = topic_ready(pipeline, applied, observed, before);
    let schedule = schedule_ready(pipeline, applied, observed, now);
    let foreign = observed.foreign_fields();
    let workers = with_foreign(workers::ready(applied, observed), "Deployment", &foreign);
    let suspended = workers::suspended(pipeline, applied);
    let ready = ready(pipeline, applied, &suspended, [&schema, &topic, &schedule, &workers]);
    // Without a change by the user, no run is started again.
    let stalled = ready.reason == PAUSED;
    let reconciling = if ready.is_true() || stalled {
        Verdict::no("Settled", "the current spec is applied")
    } else {
        Verdict::yes(&ready.reason, &ready.message)
    };
    let stalled = if stalled {
        Verdict::yes(&ready.reason, &ready.message)
    } else {
        Verdict::no("NotStalled", "the operator can apply the spec")
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
        (
            condition::DATA_FRESH,
            with_foreign(fresh::fresh(pipeline, observed, before, after, now), "CronJob", &foreign),
        ),
        (
            condition::MODIFIED,
            modified(&applied.overridden, &foreign, observed.scaler.as_deref()),
        ),
    ]
}

/// The conditions of a spec that was not applied. The previously applied spec stays in effect.
pub fn of_invalid(error: &ValidateError) -> Vec<(&'static str, Verdict)> {
    let (reason, message) = (error.reason(), error.to_string());
    let (reconciling, stalled) = if error.waits_for_connections() {
        let waiting = "no edit of the pipeline is needed once the connections can be used";
        (Verdict::yes(reason, &message), Verdict::no(reason, waiting))
    } else {
        let fixed = "no changes are made until the spec is fixed";
        (Verdict::no(reason, fixed), Verdict::yes(reason, &message))
    };
    let unknown = || Verdict::unknown(reason, "this spec is not applied; the previously applied spec stays in effect");
    vec![
        (condition::READY, Verdict::no(reason, &message)),
        (condition::SCHEMA_READY, unknown()),
        (condition::TOPIC_READY, unknown()),
        (condition::SCHEDULE_READY, unknown()),
        (condition::WORKERS_READY, unknown()),
        (condition::SUSPENDED, unknown()),
        (condition::DATA_FRESH, unknown()),
        (condition::MODIFIED, unknown()),
        (condition::RECONCILING, reconciling),
        (condition::STALLED, stalled),
    ]
}

fn schema_ready(pipeline: &UserPipeline, applied: &Applied) -> Verdict {
    if let Some(error) = applied.schema.as_ref().err().or(applied.kafka_user.as_ref().err()) {
        return Verdict::failed(error);
    }
    let status = &applied.decisions.schema.status;
    match &applied.decisions.schema.finding {
        Finding::Applied => Verdict::yes(
            "Applied",
            &format!(
                "topic, subject and tables match the spec{}{}",
                plain_text(&applied.decisions.default_tls),
                undecided_versions(pipeline)
            ),
        ),
        // During a retry, the last failure is the useful information.
        Finding::Applying(None) if status.failed_attempts > 0 => schema_failed(status),
        Finding::Applying(None) => Verdict::no("Applying", "a schema Job is applying topic, subject and tables"),
        Finding::Applying(Some((reason, message))) => Verdict::no(reason, message),
        Finding::Waiting => Verdict::no("Applying", "waiting until the schema Job of an older spec has ended"),
        Finding::Failed => schema_failed(status),
    }
}

/// Only the sink table in PostgreSQL decides between messages of external producers.
fn undecided_versions(pipeline: &UserPipeline) -> &'static str {
    if pipeline.spec.source.topic.is_none() || pipeline.spec.sinks.postgres.is_some() {
        return "";
    }
    "; of several messages of a record with equal values of orderBy, Cassandra may store a mixture: add spec.sinks.postgres, \
     which decides between them, or give every change a value of its own"
}

/// What to set where an older pipeline reaches stores in plain text because `tls` is omitted.
fn plain_text(default_tls: &DefaultTls) -> String {
    if default_tls.missing.is_empty() || default_tls.mode == TlsMode::VerifyFull {
        return String::new();
    }
    format!(
        "; stores without tls are reached in plain text (status.defaultTlsMode): set {}",
        default_tls.missing.join(", ")
    )
}

fn schema_failed(status: &SchemaStatus) -> Verdict {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    Verdict::no(&text(&status.failure_reason), &text(&status.failure_message)).or_reason("SchemaFailed")
}

fn schedule_ready(pipeline: &UserPipeline, applied: &Applied, observed: &Observed, now: Timestamp) -> Verdict {
    let Some(schedule) = &pipeline.spec.schedule else {
        return Verdict::yes(
            "NoRuns",
            "external producers write to the topic (spec.source.topic); no runs are needed",
        );
    };
    if applied.schedule.is_ok()
        && applied.started.is_ok()
        && let Some((reason, message)) = run_problem(observed, false, now)
    {
        return Verdict::no(&reason, &message);
    }
    match &applied.schedule {
        Err(error) => Verdict::failed(error),
        Ok(_) if applied.started.is_err() => applied
            .started
            .as_ref()
            .err()
            .map_or_else(|| Verdict::no("ApplyFailed", ""), Verdict::failed),
        Ok(None) => Verdict::no("WaitingForSchema", "runs start once the schema is applied"),
        Ok(Some(_)) if !applied.decisions.schema.is_applied() => {
            Verdict::no("WaitingForSchema", "runs use the previous spec until the schema is applied")
        }
        Ok(Some(_)) if applied.decisions.gate.is_workers_first() => Verdict::no(
            "WaitingForWorkers",
            "runs use the previous record until every worker has the new one",
        ),
        Ok(Some(_)) if pipeline.spec.suspend => suspended_schedule(pipeline, applied),
        Ok(Some(_)) if applied.decisions.runs.paused => Verdict::no(
            PAUSED,
            &format!(
                "paused after {} failed runs in a row (spec.schedule.pauseAfterFailures): fix the cause in the message of the last run, then request a run with spec.runNow, or change the source or the schedule",
                applied.decisions.runs.status.consecutive_failures
            ),
        ),
        Ok(Some(_)) => {
            let by = if schedule.catch_up.enabled {
                "; missed runs are caught up"
            } else {
                ""
            };
            Verdict::yes(
                "Scheduled",
                &format!("runs start at {} ({}){by}", schedule.cron, schedule.time_zone),
            )
        }
    }
}

fn suspended_schedule(pipeline: &UserPipeline, applied: &Applied) -> Verdict {
    let started = applied.decisions.runs.run_now.as_ref().map(|run| run.nonce.as_str());
    let pending = pipeline.spec.run_now.as_ref().filter(|run| Some(run.nonce.as_str()) != started);
    let pending = pending.map_or_else(String::new, |run| {
        format!(
            "; the run that spec.runNow requests (nonce {}) starts once spec.suspend is false",
            run.nonce
        )
    });
    Verdict::yes("Suspended", &format!("no run is started while the pipeline is suspended{pending}"))
}

fn ready(pipeline: &UserPipeline, applied: &Applied, suspended: &Verdict, parts: [&Verdict; 4]) -> Verdict {
    if let Err(error) = &applied.account {
        return Verdict::failed(error);
    }
    if let Some((reason, message)) = &applied.decisions.connections.problem {
        return Verdict::no(reason, message);
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
    // Draining.
    if pipeline.spec.suspend {
        return suspended.clone();
    }
    Verdict::yes("Ready", &parts[3].message)
}

#[cfg(test)]
mod tests {
    use userpipeline_api::{HttpSource, PostgresSink, TopicSource};

    use super::*;
    use crate::pipeline::example;

    #[test]
    fn only_a_topic_of_others_without_a_table_in_postgresql_has_undecided_versions() {
        let original = example::pipeline();
        let (http, postgres) = (original.spec.source.http.clone(), original.spec.sinks.postgres.clone());
        let message = |http: Option<HttpSource>, postgres: Option<PostgresSink>| {
            let mut pipeline = original.clone();
            pipeline.spec.source.topic = http.is_none().then(TopicSource::default);
            pipeline.spec.source.http = http;
            pipeline.spec.sinks.postgres = postgres;
            undecided_versions(&pipeline)
        };
        assert!(message(None, None).contains("add spec.sinks.postgres"));
        for decided in [
            message(None, postgres.clone()),
            message(http.clone(), None),
            message(http, postgres),
        ] {
            assert_eq!(decided, "");
        }
    }
}

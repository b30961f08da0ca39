//! The schema Job: makes topic, subject and tables, or mends them, in this order: PostgreSQL, Cassandra, topic, subject.
//!
//! PostgreSQL goes first, because it knows whose everything is: nothing is touched before it is claimed. Cassandra and the
//! topic do not depend on each other, so both are tried and every error is reported. The subject comes last and only when
//! all is well: from then on somebody may publish what the tables must be able to hold.

pub(crate) mod cassandra;
mod columns;
mod evolution;
mod hand;
mod postgres;
mod subject;
mod topics;

use std::{path::Path, time::Duration};

use userpipeline_api::{
    document::SchemaPipeline,
    report::{SchemaReport, cut_message, exit},
};
use userpipeline_record::RecordSchema;
use userpipeline_stores::{Class, Secrets, StoreError};

pub use self::hand::Hand;
use crate::claims::{Claims, Holder};

/// No step takes longer; whatever hangs is an error by then.
const STEP_TIMEOUT: Duration = Duration::from_secs(120);
/// The longest termination message that Kubernetes keeps.
const TERMINATION_LIMIT: usize = 4096;

/// How the schema is applied.
pub struct Manner {
    /// The Kubernetes cluster for which everything is claimed; nothing is claimed without.
    pub cluster: Option<String>,
    /// Nothing is changed; what would be is printed.
    pub plan: bool,
}

/// Applies the schema and leaves a [`SchemaReport`]; the result is the exit code.
pub async fn run(pipeline: &Path, secrets: &Secrets, termination_log: &Path, manner: Manner) -> u8 {
    let hand = if manner.plan { Hand::saying() } else { Hand::Does };
    let (report, code) = match read(pipeline) {
        Ok((pipeline, schema)) => {
            let span = tracing::info_span!("apply-schema", pipeline = %pipeline.id);
            let holder = manner.cluster.map(|cluster| Holder {
                cluster,
                pipeline: pipeline.id.to_string(),
            });
            Box::pin(tracing::Instrument::instrument(
                apply(&pipeline, &schema, secrets, holder.as_ref(), &hand),
                span,
            ))
            .await
        }
        Err(message) => {
            tracing::error!(reason = "PipelineInvalid", message, "the pipeline's file cannot be used");
            (
                SchemaReport {
                    reason: "PipelineInvalid".to_owned(),
                    message: cut_message(&message),
                    ..SchemaReport::default()
                },
                exit::CONFIGURATION,
            )
        }
    };
    if hand.only_says() {
        say(&hand.said(), &report, code);
        return code;
    }
    if let Err(e) = std::fs::write(termination_log, message(&report)) {
        tracing::warn!(path = %termination_log.display(), error = %e, "the termination message is not written");
    }
    code
}

/// For people: each change on its line, or why it cannot be told.
fn say(changes: &[String], report: &SchemaReport, code: u8) {
    for change in changes {
        println!("{change}");
    }
    if code != exit::DONE {
        println!("{}: {}", report.reason, report.message);
    } else if changes.is_empty() {
        println!("nothing would change: topic, subject and tables are as wanted");
    }
}

fn read(path: &Path) -> Result<(SchemaPipeline, RecordSchema), String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("the pipeline's file {} does not read: {e}", path.display()))?;
    let pipeline = SchemaPipeline::read(&text).map_err(|e| e.to_string())?;
    let schema = RecordSchema::read(pipeline.record.as_ref())?;
    Ok((pipeline, schema))
}

/// Applies the schema: every step that can be taken, and what came of it.
pub async fn apply(
    pipeline: &SchemaPipeline,
    schema: &RecordSchema,
    secrets: &Secrets,
    holder: Option<&Holder>,
    hand: &Hand,
) -> (SchemaReport, u8) {
    let mut errors = Vec::new();
    let mut report = SchemaReport::default();

    let claims = async {
        postgres::apply(pipeline, schema, secrets, holder, hand).await?;
        Claims::open(holder, &pipeline.postgres, secrets, hand.only_says()).await
    };
    if let Some(claims) = note(&mut errors, "PostgreSQL", bounded(claims).await) {
        note(
            &mut errors,
            "Cassandra",
            bounded(cassandra::apply(pipeline, schema, secrets, &claims, hand)).await,
        );
        if let Some(topics) = note(&mut errors, "the topic", bounded(topics::apply(pipeline, &claims, hand)).await) {
            report.partitions = topics.partitions;
            report.topic_ready = Some(topics.error.is_none());
            errors.extend(topics.error);
        }
        if errors.is_empty()
            && let Some(registry) = &pipeline.schema_registry
        {
            let id = note(
                &mut errors,
                "the subject",
                bounded(subject::apply(pipeline, registry, schema, &claims, hand)).await,
            );
            report.schema_id = id.and_then(|id| i32::try_from(id).ok());
        }
    }

    let code = conclude(&mut report, &errors);
    (report, code)
}

fn note<T>(errors: &mut Vec<StoreError>, step: &str, result: Result<T, StoreError>) -> Option<T> {
    match result {
        Ok(value) => {
            tracing::info!(step, "applied");
            Some(value)
        }
        Err(error) => {
            tracing::error!(step, reason = error.reason, message = error.message, "not applied");
            errors.push(error);
            None
        }
    }
}

async fn bounded<T>(step: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let timeout = || {
        Err(StoreError::transient(
            "TimedOut",
            format!("a step took longer than {} seconds", STEP_TIMEOUT.as_secs()),
        ))
    };
    tokio::time::timeout(STEP_TIMEOUT, step).await.unwrap_or_else(|_| timeout())
}

/// Fills in reason and message, and gives the exit code. One error that somebody must mend makes a retry useless.
fn conclude(report: &mut SchemaReport, errors: &[StoreError]) -> u8 {
    let first = errors.iter().find(|e| e.class == Class::Configuration).or(errors.first());
    first.map_or("Applied", |e| e.reason).clone_into(&mut report.reason);
    report.message = match errors {
        [] => "topic, subject and tables are as wanted".to_owned(),
        [one] => cut_message(&one.message),
        several => cut_message(
            &several
                .iter()
                .map(|e| format!("{}: {}", e.reason, e.message))
                .collect::<Vec<_>>()
                .join("; "),
        ),
    };
    match first.map(|e| e.class) {
        None => exit::DONE,
        Some(Class::Transient) => exit::RETRY,
        Some(Class::Configuration) => exit::CONFIGURATION,
    }
}

/// The report as a termination message.
fn message(report: &SchemaReport) -> String {
    let text = serde_json::to_string(report).unwrap_or_default();
    debug_assert!(text.len() < TERMINATION_LIMIT);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_must_mend_speaks_first_and_is_not_retried() {
        let transient = StoreError::transient("CassandraUnreachable", "Cassandra at c does not answer");
        let configuration = StoreError::configuration("TableMismatch", "column x is missing");
        for (errors, reason, code) in [
            (vec![], "Applied", exit::DONE),
            (vec![transient.clone()], "CassandraUnreachable", exit::RETRY),
            (vec![transient.clone(), configuration.clone()], "TableMismatch", exit::CONFIGURATION),
        ] {
            let mut report = SchemaReport::default();
            assert_eq!(conclude(&mut report, &errors), code);
            assert_eq!(report.reason, reason);
            for error in &errors {
                assert!(report.message.contains(&error.message), "{}", report.message);
            }
        }
    }

    #[test]
    fn the_longest_report_fits_a_termination_message() {
        let mut report = SchemaReport {
            topic_ready: Some(true),
            partitions: Some(i32::MAX),
            schema_id: Some(i32::MAX),
            ..SchemaReport::default()
        };
        let errors: Vec<_> = (0..4)
            .map(|_| StoreError::transient("PostgresUnreachable", "\u{1}\"".repeat(5000)))
            .collect();
        conclude(&mut report, &errors);
        let text = message(&report);
        assert!(text.len() < TERMINATION_LIMIT, "{}", text.len());
        assert!(serde_json::from_str::<SchemaReport>(&text).is_ok());
    }
}

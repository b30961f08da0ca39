//! The schema Job: creates or alters topic, subject and tables, in this order: PostgreSQL, Cassandra, topic, aggregates, subject.
//!
//! PostgreSQL goes first, because it has the claims: nothing is touched before it is claimed. The other sinks and the topic do
//! not depend on each other, so all are tried and every error is reported. The subject comes last and only without an error:
//! from then on records may be published, and the tables must be able to hold them.

mod aggregates;
mod evolution;
mod identity;
mod landing;
mod postgres;
mod subject;
mod topic_permission;
mod topic_settings;
mod topics;
mod verify_topics;

use std::{sync::Arc, time::Duration};

use userpipeline_api::{
    StoreObject,
    document::SchemaPipeline,
    report::{SchemaReport, cut_message, exit},
    text::truncate,
};
use userpipeline_record::RecordSchema;
use userpipeline_runtime::leave_report;
use userpipeline_stores::{Class, StoreError, postgres::Connection};

pub use self::identity::{ExpectedStores, postgres_system};
use super::runner::{Finished, TaskFiles, execute};
use crate::{
    claims::{Claims, Holder},
    created_objects::CreatedObjects,
    mode::Mode,
    sinks::{self, SchemaTask},
    store_identities::StoreIdentities,
    wires,
};

/// Bytes. Kubernetes cuts a termination message off at 4096.
const REPORT_LIMIT: usize = 4000;
/// No step takes longer; one that hangs is an error by then.
const STEP_TIMEOUT: Duration = Duration::from_secs(120);

/// Applies the schema and leaves a [`SchemaReport`]; returns the exit code. `cluster`: the Kubernetes cluster for which
/// everything is claimed; nothing is claimed without. `recorded`: what the pipeline created before. `stores`: the only ones that are
/// changed.
pub async fn run(files: &TaskFiles, cluster: Option<String>, recorded: RecordedObjects, stores: &ExpectedStores, mode: &Mode) -> u8 {
    let log = (!mode.is_dry_run()).then(|| files.termination_log.clone());
    let created = Arc::new(CreatedObjects::new(recorded.objects, recorded.from_claims, log));
    let identities = StoreIdentities::default();
    let finished = execute(files, read, async |(pipeline, schema): (SchemaPipeline, RecordSchema)| {
        let span = tracing::info_span!("apply-schema", pipeline = %pipeline.id);
        let holder = cluster.map(|cluster| Holder {
            cluster,
            pipeline: pipeline.id.to_string(),
            created: created.clone(),
        });
        let task = SchemaTask {
            pipeline: &pipeline,
            schema: &schema,
            secrets: &files.secrets,
            mode,
            identities: &identities,
        };
        let applying = apply(task, holder.as_ref(), stores);
        Box::pin(tracing::Instrument::instrument(applying, span)).await
    })
    .await;
    if mode.is_dry_run() {
        print(&mode.changes(), &finished);
    } else {
        leave_report(&finished.report, &files.termination_log);
    }
    finished.exit
}

/// The operator's record of what the pipeline created.
#[derive(Clone, Debug, Default)]
pub struct RecordedObjects {
    /// None where claims decide.
    pub objects: Option<Vec<StoreObject>>,
    /// The pipeline is older than the record, so its claims fill it.
    pub from_claims: bool,
}

/// For people: a line for each change, or why the changes are unknown.
fn print(changes: &[String], finished: &Finished<SchemaReport>) {
    for change in changes {
        println!("{change}");
    }
    if finished.exit != exit::DONE {
        println!("{}: {}", finished.report.reason, finished.report.message);
    } else if changes.is_empty() {
        println!("nothing would change: topic, subject and tables match the spec");
    }
}

fn read(text: &str) -> Result<(SchemaPipeline, RecordSchema), String> {
    let pipeline = SchemaPipeline::read(text).map_err(|e| e.to_string())?;
    let schema = RecordSchema::read(pipeline.record.as_ref())?;
    Ok((pipeline, schema))
}

/// Applies every step that can be applied.
async fn apply(task: SchemaTask<'_>, holder: Option<&Holder>, stores: &ExpectedStores) -> Finished<SchemaReport> {
    let SchemaTask {
        pipeline,
        schema,
        secrets,
        mode,
        identities,
    } = task;
    let mut errors = Vec::new();
    let mut report = SchemaReport::default();
    let connection = Connection::new(&pipeline.postgres, secrets);
    let claims = async {
        wires::check(&wires::wires(
            &pipeline.postgres,
            &pipeline.kafka.brokers(),
            pipeline.schema_registry.as_ref(),
            pipeline.cassandra.as_ref(),
            secrets,
        ))?;
        let ids = stores.verify(&task, &connection).await?;
        if let Some(Holder { created, .. }) = holder {
            created.set_database(ids.postgres_system.as_deref());
        }
        postgres::apply(&task, &connection, holder).await?;
        Ok((ids, Claims::open(holder, &connection, mode.is_dry_run()).await?))
    };
    if let Some((ids, claims)) = record(&mut errors, "PostgreSQL", Box::pin(bounded(claims)).await) {
        report.postgres_system = ids.postgres_system;
        for sink in sinks::ALL {
            if let Some((step, applying)) = sink.apply_schema(&task, &claims) {
                record(&mut errors, step, bounded(applying).await);
            }
        }
        if let Some(topics) = record(
            &mut errors,
            "the topic",
            bounded(topics::apply(&task, &claims, stores.any_replicas)).await,
        ) {
            report.partitions = topics.partitions;
            report.topic_id = topics.id;
            report.kafka_cluster = topics.cluster;
            report.topic_ready = Some(topics.error.is_none());
            errors.extend(topics.error);
        }
        let aggregates = Box::pin(aggregates::apply(&task, &connection, holder, &claims));
        record(&mut errors, "the aggregates", within(aggregates::TIMEOUT, aggregates).await);
        if errors.is_empty()
            && let Some(registry) = &pipeline.schema_registry
        {
            let applying = subject::apply(pipeline, registry, secrets, schema, &claims, mode);
            let id = record(&mut errors, "the subject", bounded(applying).await);
            report.schema_id = id.and_then(|id| i32::try_from(id).ok());
        }
    }
    finish(report, &errors, holder, identities)
}

/// The report with what was claimed, created and identified.
fn finish(
    mut report: SchemaReport,
    errors: &[StoreError],
    holder: Option<&Holder>,
    identities: &StoreIdentities,
) -> Finished<SchemaReport> {
    let exit = conclude(&mut report, errors);
    report.has_all_claimed = errors.is_empty() && holder.is_some_and(|holder| holder.created.is_filled());
    report.created_objects = holder.map_or_else(Vec::new, |holder| holder.created.created());
    report.store_identities = identities.known();
    fit(&mut report);
    Finished { report, exit }
}

fn record<T>(errors: &mut Vec<StoreError>, step: &str, result: Result<T, StoreError>) -> Option<T> {
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
    within(STEP_TIMEOUT, step).await
}

async fn within<T>(limit: Duration, step: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let timeout = || {
        Err(StoreError::transient(
            "TimedOut",
            format!("a step took longer than {} seconds", limit.as_secs()),
        ))
    };
    tokio::time::timeout(limit, step).await.unwrap_or_else(|_| timeout())
}

/// Sets reason and message, and returns the exit code. With a configuration error a retry is useless.
fn conclude(report: &mut SchemaReport, errors: &[StoreError]) -> u8 {
    let first = errors.iter().find(|e| e.class == Class::Configuration).or(errors.first());
    first.map_or("Applied", |e| e.reason).clone_into(&mut report.reason);
    report.message = match errors {
        [] => "topic, subject and tables match the spec".to_owned(),
        [one] => cut_message(&one.message),
        several => cut_message(
            &several
                .iter()
                .map(|e| format!("{}: {}", e.reason, e.message))
                .collect::<Vec<_>>()
                .join("; "),
        ),
    };
    first.map_or(exit::DONE, |e| e.class.exit_code())
}

/// Shortens the message until the report is a valid termination message: a record that is cut off would be lost.
fn fit(report: &mut SchemaReport) {
    while serde_json::to_vec(report).is_ok_and(|text| text.len() > REPORT_LIMIT) && !report.message.is_empty() {
        report.message = truncate(&report.message, report.message.len() / 2);
    }
}

#[cfg(test)]
mod tests {
    use userpipeline_api::{StoreAddress, StoreObjectKind};
    use userpipeline_runtime::termination_report;

    use super::*;

    #[test]
    fn a_configuration_error_is_reported_first_and_not_retried() {
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
    fn the_longest_record_fits_a_termination_message_whole() {
        use StoreObjectKind::{CassandraTable, ConsumerGroup, Subject, Table, Topic};
        let object = |(kind, length): (StoreObjectKind, usize)| StoreObject::new(kind, &"s".repeat(128), &"n".repeat(length));
        let kinds = [
            (Topic, 245),
            (Topic, 249),
            (Subject, 251),
            (ConsumerGroup, 249),
            (Table, 63),
            (Table, 63),
            (CassandraTable, 97),
        ];
        let mut report = SchemaReport {
            created_objects: kinds.map(object).to_vec(),
            store_identities: ["k", "p", "c"]
                .map(|id| StoreAddress::kafka(id).identified([id.repeat(128)]))
                .to_vec(),
            kafka_cluster: Some("k".repeat(64)),
            postgres_system: Some("p".repeat(84)),
            ..SchemaReport::default()
        };
        conclude(&mut report, &[StoreError::transient("PostgresUnreachable", "\"".repeat(5000))]);
        fit(&mut report);
        let text = termination_report(&report).unwrap();
        assert!(text.len() < 4096, "{}", text.len());
        assert_eq!(serde_json::from_str::<SchemaReport>(&text).unwrap().created_objects.len(), 7);
        assert!(!report.message.is_empty());
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
        let text = termination_report(&report).unwrap();
        assert!(text.len() < 4096, "{}", text.len());
        assert!(serde_json::from_str::<SchemaReport>(&text).is_ok());
    }
}

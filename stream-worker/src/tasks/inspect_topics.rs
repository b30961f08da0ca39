//! Reports which of the pipeline's topics exist, and what they are like. Strimzi's Topic Operator removes every setting of a topic that
//! its KafkaTopic lacks, so the operator must know the settings before it creates the KafkaTopic.

use userpipeline_api::{
    ExistingTopic, MAX_MESSAGE_BYTES,
    document::SchemaPipeline,
    report::{InspectionReport, cut_message},
    topic_id,
};
use userpipeline_stores::{
    Secrets, StoreError,
    kafka::{Connection, admin::Admin},
};

use super::runner::{self, Finished, TaskFiles};

/// Bytes. Kubernetes cuts a termination message off at 4096.
const REPORT_LIMIT: usize = 4000;

/// Inspects both topics and leaves an [`InspectionReport`]; returns the exit code.
pub async fn run(files: &TaskFiles) -> u8 {
    let read = |text: &str| SchemaPipeline::read(text).map_err(|e| e.to_string());
    runner::run(files, read, async |pipeline| {
        let finished = match inspect(&pipeline, &files.secrets).await.and_then(fitting) {
            Ok(report) => Finished::done(report),
            Err(error) => Finished::failed(&error),
        };
        tracing::info!(reason = finished.report.reason, message = finished.report.message, "ended");
        finished
    })
    .await
}

async fn inspect(pipeline: &SchemaPipeline, secrets: &Secrets) -> Result<InspectionReport, StoreError> {
    let connection = Connection::new(&pipeline.kafka.brokers(), secrets);
    let admin = Admin::connect(&connection, &format!("inspect-topics {}", pipeline.id)).await?;
    let mut existing = Vec::new();
    for topic in [&pipeline.topic, &pipeline.dead_letter_topic] {
        existing.extend(found(&admin, topic).await?);
    }
    let names: Vec<&str> = existing.iter().map(|topic| topic.name.as_str()).collect();
    let message = if names.is_empty() {
        "neither topic exists".to_owned()
    } else {
        format!("exists: {}", names.join(", "))
    };
    Ok(InspectionReport {
        reason: "Inspected".to_owned(),
        message: cut_message(&message),
        kafka_cluster: Some(admin.cluster_id().await?),
        existing,
    })
}

async fn found(admin: &Admin, name: &str) -> Result<Option<ExistingTopic>, StoreError> {
    let Some(state) = admin.topic(name).await? else { return Ok(None) };
    let limit = admin.config(name).await?.get(MAX_MESSAGE_BYTES).and_then(|text| text.parse().ok());
    Ok(Some(ExistingTopic {
        name: name.to_owned(),
        id: topic_id(&state.id),
        partitions: state.partitions,
        replicas: state.replicas,
        message_limit: limit,
        config: admin.own_config(name).await?,
    }))
}

/// The report, if it is a valid termination message. Settings that it lacked would be removed from the topic.
fn fitting(report: InspectionReport) -> Result<InspectionReport, StoreError> {
    let is_short = serde_json::to_vec(&report).is_ok_and(|text| text.len() <= REPORT_LIMIT);
    if is_short {
        return Ok(report);
    }
    let names: Vec<&str> = report.existing.iter().map(|topic| topic.name.as_str()).collect();
    Err(StoreError::configuration(
        "TopicConfigTooLarge",
        format!(
            "the settings of the existing topics {} are longer than {REPORT_LIMIT} bytes, so the operator cannot take them over: create the KafkaTopics \
             yourself, with all settings, and set spec.kafka.topic.management to None",
            names.join(" and ")
        ),
    ))
}

#[cfg(test)]
mod tests {
    use userpipeline_runtime::termination_report;

    use super::*;

    fn report(settings: usize) -> InspectionReport {
        let topic = ExistingTopic {
            name: "t".repeat(249),
            id: "i".repeat(22),
            config: (0..settings).map(|n| (format!("setting.{n}"), "v".repeat(64))).collect(),
            ..ExistingTopic::default()
        };
        InspectionReport {
            existing: vec![topic.clone(), topic],
            ..InspectionReport::default()
        }
    }

    #[test]
    fn settings_that_do_not_fit_a_termination_message_are_an_error() {
        let fits = fitting(report(18)).unwrap();
        let text = termination_report(&fits).unwrap();
        assert_eq!(serde_json::from_str::<InspectionReport>(&text).unwrap(), fits);
        let error = fitting(report(30)).unwrap_err();
        assert_eq!(error.reason, "TopicConfigTooLarge");
        assert!(
            error.message.contains("set spec.kafka.topic.management to None"),
            "{}",
            error.message
        );
    }
}

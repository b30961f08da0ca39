//! Verifies topics that the schema Job does not create: external ones, and those of Strimzi.

use std::collections::BTreeMap;

use userpipeline_api::{MAX_MESSAGE_BYTES, document::SchemaPipeline, topic_id};
use userpipeline_stores::{
    StoreError,
    error::{TOPIC_MISMATCH, TOPIC_MISSING, TOPIC_REPLACED},
    kafka::admin::{Admin, TopicState},
};

use super::topic_settings::{changed_settings, message_limit, verify_dead_letter_limit, verify_message_limit};

const TOPIC: &str = "spec.kafka.topic.name";
const DEAD_LETTERS: &str = "spec.deadLetter.topic";

pub async fn verify_external(admin: &Admin, pipeline: &SchemaPipeline, found: bool) -> Result<(), StoreError> {
    let missing = |topic: &str, field: &str| {
        StoreError::configuration(
            TOPIC_MISSING,
            format!("topic `{topic}` ({field}) is not there, and spec.kafka.topic.management is None: make it, or choose Direct"),
        )
    };
    if !found {
        return Err(missing(&pipeline.topic, TOPIC));
    }
    if admin.topic(&pipeline.dead_letter_topic).await?.is_none() {
        return Err(missing(&pipeline.dead_letter_topic, DEAD_LETTERS));
    }
    verify_limits(admin, pipeline).await.map(drop)
}

/// The Topic Operator has reported both topics as ready, or they are paused or not managed.
pub async fn verify_strimzi(admin: &Admin, pipeline: &SchemaPipeline, found: Option<&TopicState>) -> Result<(), StoreError> {
    // Not all brokers see a new topic at once.
    let missing = |topic: &str, field: &str| {
        StoreError::transient(
            TOPIC_MISSING,
            format!("topic `{topic}` ({field}) is not in Kafka, although it has a KafkaTopic: see the status of the KafkaTopic"),
        )
    };
    let found = found.ok_or_else(|| missing(&pipeline.topic, TOPIC))?;
    if admin.topic(&pipeline.dead_letter_topic).await?.is_none() {
        return Err(missing(&pipeline.dead_letter_topic, DEAD_LETTERS));
    }
    let config = verify_limits(admin, pipeline).await?;
    difference(pipeline, found, &config).map_or(Ok(()), Err)
}

/// Whether both topics take the messages that are written to them. Returns the settings of the topic.
async fn verify_limits(admin: &Admin, pipeline: &SchemaPipeline) -> Result<BTreeMap<String, String>, StoreError> {
    let (topic, dead_letters) = (&pipeline.topic, &pipeline.dead_letter_topic);
    let config = admin.config(topic).await?;
    let takes = message_limit(&config);
    if pipeline.landing_table.is_some() {
        verify_message_limit(topic, &pipeline.kafka.topic, takes)?;
    }
    // The first bad message needs it.
    verify_dead_letter_limit(dead_letters, topic, takes, message_limit(&admin.config(dead_letters).await?))?;
    Ok(config)
}

/// How the topic differs from what its KafkaTopic was created with.
fn difference(pipeline: &SchemaPipeline, found: &TopicState, config: &BTreeMap<String, String>) -> Option<StoreError> {
    let (topic, desired) = (&pipeline.topic, &pipeline.kafka.topic);
    let id = topic_id(&found.id);
    if let Some(expected) = desired.id.as_ref().filter(|expected| **expected != id) {
        return Some(replaced(topic, expected, &id));
    }
    if found.partitions < desired.partitions {
        return Some(StoreError::transient(
            TOPIC_MISMATCH,
            format!(
                "topic `{topic}` has {} partitions and spec.kafka.topic.partitions is {}: the Topic Operator has not added the others; see the status of the KafkaTopic",
                found.partitions, desired.partitions
            ),
        ));
    }
    let runs = pipeline.landing_table.is_some();
    let declared = desired.config.contains_key(MAX_MESSAGE_BYTES);
    let changes = changed_settings(&desired.settings(runs), config, declared);
    (!changes.is_empty()).then(|| {
        StoreError::transient(
            TOPIC_MISMATCH,
            format!(
                "topic `{topic}` lacks the settings {changes:?}: the Topic Operator has not set them; see the status of the KafkaTopic"
            ),
        )
    })
}

fn replaced(topic: &str, expected: &str, found: &str) -> StoreError {
    StoreError::transient(
        TOPIC_REPLACED,
        format!(
            "topic `{topic}` ({TOPIC}) has the id {found}, and the pipeline uses the topic with the id {expected}: it was deleted, and created again without its messages"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIPELINE: &str = r"
kind: UserPipeline
metadata: {name: users, namespace: demo}
spec:
  postgres: {host: postgres, database: users, credentialsSecretRef: {name: p}}
  kafka: {bootstrapServers: 'kafka:9092', topic: {management: Strimzi, partitions: 3, id: a-b_c, config: {retention.ms: '1000'}}}
  schemaRegistry: {url: http://registry:8080}
  sinks: {postgres: {}}
";

    #[test]
    fn a_topic_of_strimzi_is_what_its_resource_declares() {
        let pipeline = SchemaPipeline::read(PIPELINE).unwrap();
        let config = |retention: &str| {
            let pairs = [("retention.ms", retention), (MAX_MESSAGE_BYTES, "1179648"), ("segment.ms", "5")];
            pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
        };
        for (case, id, partitions, retention, expected) in [
            ("as declared, and with librdkafka's form of the id", "a+b/c", 3, "1000", None),
            ("more partitions, of an adopted topic", "a-b_c", 5, "1000", None),
            ("another topic of the same name", "other", 3, "1000", Some(TOPIC_REPLACED)),
            ("partitions that are not added yet", "a-b_c", 2, "1000", Some(TOPIC_MISMATCH)),
            ("a setting that is not set yet", "a-b_c", 3, "2000", Some(TOPIC_MISMATCH)),
        ] {
            let found = TopicState {
                id: id.to_owned(),
                partitions,
                replicas: 1,
                led: true,
            };
            let difference = difference(&pipeline, &found, &config(retention));
            assert_eq!(difference.as_ref().map(|error| error.reason), expected, "{case}: {difference:?}");
        }
    }
}

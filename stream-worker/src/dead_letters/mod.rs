//! Dead letters: the message as it came, and in headers where it came from and what is wrong with it.

pub mod command;
mod letter;
mod print;
mod read;
mod redrive;
pub mod select;

use std::time::Duration;

use futures::future::join_all;
use rdkafka::{
    error::KafkaError,
    message::{Header as KafkaHeader, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};
use userpipeline_api::document::WorkerPipeline;
use userpipeline_stores::{
    Class, StoreError,
    error::DEAD_LETTER_FAILED,
    kafka::{client_config, errors, producer::CLIENT_LIMIT},
};

use self::letter::headers_of;
use crate::{
    decode::Fault,
    message::{Header, Message},
};

/// So long the brokers are tried before the letter is tried anew, by a new producer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Writes dead letters, and waits until they are acknowledged.
pub struct DeadLetters {
    producer: FutureProducer,
    origin: String,
    topic: String,
    group: String,
}

impl DeadLetters {
    /// A producer for a pipeline's dead letters.
    pub fn new(pipeline: &WorkerPipeline, instance: &str) -> Result<Self, StoreError> {
        let producer = producer(&pipeline.bootstrap_servers, &format!("{instance} dead letters"))?;
        Ok(Self {
            producer,
            origin: pipeline.topic.clone(),
            topic: pipeline.dead_letter_topic.clone(),
            group: pipeline.group_id.clone(),
        })
    }

    /// Writes messages with their faults; gives for each whether all replicas acknowledged it.
    pub async fn send(&self, letters: &[(&Message, &Fault)]) -> Vec<Result<(), StoreError>> {
        let at = jiff::Timestamp::now();
        let deliveries = letters.iter().map(|(message, fault)| async move {
            let headers = headers_of(message, fault, &self.origin, &self.group, at);
            send(&self.producer, &self.topic, message, &headers)
                .await
                .map_err(|error| self.failed(&error))
        });
        join_all(deliveries).await
    }

    fn failed(&self, error: &KafkaError) -> StoreError {
        let explained = errors::explain(
            &format!("writing to the dead-letter topic `{}` (spec.deadLetter.topic)", self.topic),
            error,
        );
        match explained.class {
            Class::Transient => explained,
            Class::Configuration => StoreError {
                reason: DEAD_LETTER_FAILED,
                ..explained
            },
        }
    }
}

/// A producer of messages as they came.
fn producer(brokers: &str, client: &str) -> Result<FutureProducer, StoreError> {
    client_config(brokers, client)
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("message.timeout.ms", TIMEOUT.as_millis().to_string())
        .set("message.max.bytes", CLIENT_LIMIT)
        // Small batches: the broker's limit, which is not known here, is for a batch, and one that is too large fails with all its messages.
        .set("batch.size", "16384")
        // The broker's limit counts compressed bytes: what its producer compressed must not be too large here.
        .set("compression.type", "lz4")
        .set("allow.auto.create.topics", "false")
        // A key goes to the partition to which Java's clients, and ours, send it.
        .set("partitioner", "murmur2_random")
        .create()
        .map_err(|e| errors::explain("no producer for dead letters", &e))
}

/// Sends a message as it came, with these headers, and waits until all replicas have acknowledged it.
async fn send(producer: &FutureProducer, topic: &str, message: &Message, headers: &[Header]) -> Result<(), KafkaError> {
    let mut owned = OwnedHeaders::new_with_capacity(headers.len());
    for (key, value) in headers {
        owned = owned.insert(KafkaHeader {
            key,
            value: value.as_ref(),
        });
    }
    let record: FutureRecord<'_, [u8], [u8]> = FutureRecord {
        topic,
        partition: None,
        payload: message.payload.as_deref(),
        key: message.key.as_deref(),
        timestamp: None,
        headers: Some(owned),
    };
    producer.send(record, TIMEOUT).await.map(drop).map_err(|(error, _)| error)
}
